"""Step `evaluate`: searches from several seeds beside random search at equal training cost, each trained to the end.

Cost is counted in multiply-accumulates of training (`Setting.training_macs`), the teacher's included: unlike seconds
they are the same on a busy machine, so runs repeat. Seconds are reported beside them.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.data.tasks import task_id
from common.experiment.files import read_json, write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.experiment.seeds import derive_seed
from common.kd.recipe import Recipe
from common.report.facts import commands_of
from common.store.records import RecordStore
from mfkd.execution import PRODUCTS, check_steps, context_of
from mfkd.images import final_task, open_images
from mfkd.models import model_at, teacher_of
from mfkd.pipeline import TrainStep
from mfkd.plans import images_of, plain_settings, published, training_of
from mfkd.point_evaluations import PointEvaluations, setting_of
from mfkd.report_comparisons import evaluate_page
from mfkd.report_inputs import Arm, EvaluateFacts
from mfkd.search import SearchOptions, search_steps, teacher_of_search
from mfkd.search_step import Found, search
from mfkd.train_step import train_models
from mfkd.training import Context, num_images_of

RANDOM = "random search"
_LONGEST = 10_000  # random networks that a cost could pay for, at most


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(SearchOptions):
    """Search with several seeds, and at random at the same cost; the networks found are trained alike to the end."""

    recipe: Recipe = field(default_factory=lambda: published(loss="ce"))
    """The final training, on all training images; measured on the test images."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One search, one random search and two final trainings each; --seed draws the teacher."""

    def __post_init__(self) -> None:
        """Check the seeds."""
        super().__post_init__()
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """One network that was found, and what it took."""

    validation: float | None
    test: float
    num_high: int
    macs: int
    seconds: float
    architecture: str


def evaluate(cfg: EvaluateConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError, ValueError: there is no such dataset or teacher, or a class has no image.
        RuntimeError: the teacher's file holds another network, or a training diverged.
    """
    task = task_id(cfg.data, data_root=cfg.data_root)
    folder = cfg.out or Path("exp/mfkd/evaluate") / slug(task)
    products = [*PRODUCTS, "seed*"]
    with open_run(folder, program="mfkd", step="evaluate", config=cfg, products=products) as run:
        if run.result is None:
            print(f"evaluate: {cfg.algorithm} and random search on {task}, seeds {cfg.seeds} -> {folder}", flush=True)
            teacher = teacher_of_search(cfg)
            check_steps(search_steps(cfg, teacher), cfg)
            _finish(cfg, run, _teacher_facts(cfg, teacher), _trials(cfg, run, teacher))
        else:
            print(f"{folder} is finished; --restart evaluates anew")
        assert run.result is not None
        _report(run.result, folder)


def _teacher_facts(cfg: EvaluateConfig, file: Path) -> dict[str, Any]:
    """Accuracy and cost of the teacher; a given one cost nothing here."""
    result = file.parent / "result.json"
    if cfg.teacher.file is not None or not result.is_file():
        return {"file": str(file), "accuracy": None, "macs": 0, "seconds": 0.0}
    found = read_json(result)["steps"][0]["models"][0]
    images = images_of(cfg.data, cfg.resolution)
    task = final_task(images, open_images(images, data_root=cfg.data_root, seed=cfg.seed))
    cost = teacher_of(cfg.space.space).cost(task.num_classes, task.resolution)
    macs = 3 * cost.macs * num_images_of(cfg.teacher.recipe, len(task.train))
    return {"file": str(file), "accuracy": found["accuracy"], "macs": macs, "seconds": found["seconds"]}


def _trials(cfg: EvaluateConfig, run: Run, teacher: Path) -> dict[str, list[_Trial]]:
    """Way to search -> one trial a seed."""
    facts = _teacher_facts(cfg, teacher)
    trials: dict[str, list[_Trial]] = {cfg.algorithm: [], RANDOM: []}
    with RecordStore(run.folder / "records.sqlite") as store:
        for seed in cfg.seeds:
            folder = run.folder / f"seed{seed}"
            folder.mkdir(exist_ok=True)
            context = context_of(folder, cfg, store)
            ours = _searched(replace(cfg, seed=seed), context, teacher, facts)
            at_random = _random(replace(cfg, seed=seed), context, teacher, ours.macs)
            for name, trial in ((cfg.algorithm, ours), (RANDOM, at_random)):
                trials[name].append(trial)
                print(f"seed {seed}, {name}: {_line(trial)}", flush=True)
    return trials


def _searched(cfg: EvaluateConfig, context: Context, teacher: Path, facts: Mapping[str, Any]) -> _Trial:
    found: Found | None = None
    results = []
    for step in search_steps(cfg, teacher):
        found = search(step, "low" if found is None else "high", context, found)
        results.append(found.result)
    assert found is not None
    num_high = sum(one["fidelity"] == "high" for result in results for one in result["evaluations"])
    return _Trial(
        validation=found.result["winner"]["accuracy"],
        test=_final(cfg, context, teacher, cfg.algorithm, found.point),
        num_high=num_high,
        macs=facts["macs"] + sum(result["training_macs"] for result in results),
        seconds=facts["seconds"] + sum(result["seconds"] for result in results),
        architecture=found.result["winner"]["architecture"],
    )


def _random(cfg: EvaluateConfig, context: Context, teacher: Path, macs: int) -> _Trial:
    """As many random networks at high fidelity as the cost pays for, at least one, and the best of them."""
    space = cfg.space.space
    images, training = (
        images_of(cfg.data, cfg.resolution, cfg.high),
        training_of(cfg.high.recipe, cfg.seed, teacher),
    )
    setting = setting_of(space, images, training, "high", context)
    evaluations = PointEvaluations(RANDOM, {"high": setting}, context)
    points: list[int] = []
    spent = 0
    for point in _draws(space.size(), cfg.seed):
        cost = evaluations.training_macs(point, "high")
        if points and spent + cost > macs:
            break
        points.append(point)
        spent += cost
    evaluations.num_planned = len(points)
    accuracies = evaluations(points, "high")
    best = int(np.argmax(accuracies))
    return _Trial(
        validation=accuracies[best],
        test=_final(cfg, context, teacher, "random", points[best]),
        num_high=len(points),
        macs=spent,
        seconds=sum(evaluations.record(point, "high").seconds for point in points),
        architecture=evaluations.model(points[best]).text,
    )


def _draws(size: int, seed: int) -> list[int]:
    """Distinct points in random order."""
    random = np.random.default_rng(derive_seed(seed, "random search"))
    return [int(point) for point in random.choice(size, min(size, _LONGEST), replace=False)]


def _final(cfg: EvaluateConfig, context: Context, teacher: Path, name: str, point: int) -> float:
    """Test accuracy of a network after the final training."""
    step = TrainStep(
        name=f"final_{name}",
        images=images_of(cfg.data, cfg.resolution),
        training=training_of(cfg.recipe, cfg.seed, teacher),
        model=model_at(cfg.space.space, point),
    )
    accuracy: float = train_models(step, context)["models"][0]["accuracy"]
    return accuracy


def _finish(cfg: EvaluateConfig, run: Run, teacher: Mapping[str, Any], trials: Mapping[str, Sequence[_Trial]]) -> None:
    for number, seed in enumerate(cfg.seeds):
        for name, found in trials.items():
            run.log(number, {f"{name}_test": found[number].test, "seed": float(seed)}, split="test")
    task = task_id(cfg.data, data_root=cfg.data_root)
    images = images_of(cfg.data, cfg.resolution)
    description = open_images(images, data_root=cfg.data_root, seed=cfg.seed).description
    arms = [
        Arm(
            name=name,
            validation=[trial.validation for trial in found],
            test=[trial.test for trial in found],
            num_high=[trial.num_high for trial in found],
            macs=[trial.macs for trial in found],
            seconds=[trial.seconds for trial in found],
            architectures=[trial.architecture for trial in found],
        )
        for name, found in trials.items()
    ]
    settings = {
        "Space": f"{cfg.space.space.size():,} networks, {cfg.resolution} x {cfg.resolution} pixels",
        "Low fidelity": f"{cfg.num_low} trainings on {cfg.low.portion:.1%}; {plain_settings(cfg.low.recipe)}",
        "High fidelity": f"{cfg.num_high} trainings; {plain_settings(cfg.high.recipe)}",
        "Final training": plain_settings(cfg.recipe),
    }
    facts = EvaluateFacts(
        dataset=description,
        arms=arms,
        seeds=cfg.seeds,
        teacher=teacher,
        settings=settings,
        commands=commands_of("mfkd", "evaluate", run.folder),
    )
    write_text(run.folder / "report.html", evaluate_page(facts))
    run.finish(
        {
            "task": task,
            "description": description,
            "seeds": list(cfg.seeds),
            "teacher": dict(teacher),
            "arms": {name: [asdict(trial) for trial in found] for name, found in trials.items()},
        }
    )


def _line(trial: _Trial) -> str:
    validation = "not trained" if trial.validation is None else f"{100 * trial.validation:.2f} % validation"
    return (
        f"{trial.architecture}, {validation}, {100 * trial.test:.2f} % test, {trial.num_high} full trainings, "
        f"{trial.macs / 1e12:.2f} T MACs, {trial.seconds:.0f} s"
    )


def _report(result: Mapping[str, Any], folder: Path) -> None:
    teacher = result["teacher"]["accuracy"]
    known = "" if teacher is None else f"; teacher {100 * teacher:.2f} %"
    print(f"{result['description']}, seeds {result['seeds']}{known}")
    print(f"{'':<16}{'test accuracy':>18}{'validation':>12}{'full trainings':>16}{'T MACs':>9}{'seconds':>9}")
    for name, trials in result["arms"].items():
        test = [100 * trial["test"] for trial in trials]
        spread = f" +- {statistics.stdev(test):.2f}" if len(test) > 1 else ""
        valid = [100 * trial["validation"] for trial in trials if trial["validation"] is not None]
        means = [statistics.fmean(trial[key] for trial in trials) for key in ("num_high", "macs", "seconds")]
        validation = f"{statistics.fmean(valid):.2f} %" if valid else "-"
        print(
            f"{name:<16}{f'{statistics.fmean(test):.2f}{spread} %':>18}{validation:>12}{means[0]:>16.1f}"
            f"{means[1] / 1e12:>9.2f}{means[2]:>9.0f}"
        )
    print(f"report: {folder / 'report.html'}")
