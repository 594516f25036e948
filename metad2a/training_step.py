"""What the step `train` does in every space: the chosen architecture from several seeds, and random ones beside it.

Source: Lee et al., ICLR 2021, released code (nas_bench_201): the accuracy of the last epoch, mean and 95 % interval.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.data.tasks import Task
from common.experiment.config import StepConfig, UsageError, to_dict
from common.experiment.files import read_json, write_text
from common.experiment.run import Run, open_run
from common.experiment.workers import Workers
from common.kd.evaluate import predict
from common.kd.recipe import Recipe
from common.report.facts import PredictionFacts, commands_of, dataset_facts, settings_of
from metad2a.facts import arch_facts
from metad2a.networks import TrainedNetwork, load_network
from metad2a.report import train_page
from metad2a.report_inputs import TrainedArch, TrainFacts
from metad2a.search import search_folder
from metad2a.spaces import Arch, SpaceName
from metad2a.training import (
    FreshWeights,
    InheritedWeights,
    Training,
    Wanted,
    measures_of,
    network_file,
    run_of,
    runs_of,
    train_all,
)

_SHOWN_PREDICTIONS = 200


@dataclass(frozen=True, kw_only=True)
class TrainStepConfig(StepConfig):
    """Flags of `train` in every space."""

    data: str = "digits"
    """A known name (`mnist`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    arch: str | None = None
    """The architecture, as a search prints it; none takes the best one of `search` on this dataset."""
    seeds: tuple[int, ...] = (777, 888, 999)
    """One training each; published."""
    num_random: int = 0
    """Random architectures that are trained the same way, from the first seed, for comparison."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if self.num_random < 0:
            raise ValueError(f"num_random is {self.num_random}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What is trained, and on what.

    Attributes:
        task: the dataset.
        space: of the networks.
        chosen: the architecture that counts.
        random: others beside it.
        start: the weights that training begins with.
        recipe: how.
    """

    task: Task
    space: Any
    chosen: Arch
    random: Sequence[Arch]
    start: FreshWeights | InheritedWeights
    recipe: Recipe


def found_arch(task: str, data: str, space: SpaceName) -> str:
    """The best architecture of the search on this task.

    Raises:
        UsageError: there was none.
    """
    file = search_folder(task, space) / "result.json"
    if not file.exists():
        of_space = "" if space == "nasbench201" else f"--space {space} "
        raise UsageError(
            f"which architecture? Run `python -m metad2a search {of_space}--data {data}` first (no {file}), or give "
            "--arch"
        )
    return str(read_json(file)["chosen"][0]["arch"])


def run_training(cfg: TrainStepConfig, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
    """Train all that is wanted, and write the page and the result; a run that is finished says so.

    Args:
        cfg: flags of the step.
        plan: what is trained.
        folder: of the run.
        say: takes lines for the user.
    """
    with open_run(folder, program="metad2a", step="train", config=cfg, products=["cell-*.safetensors"]) as run:
        if run.result is None:
            text = plan.space.format(plan.chosen)
            say(f"train: {text} on {plan.task.description}, {_counts(cfg)} -> {folder}")
            training = Training.of(cfg, cfg.data, plan.task.resolution, plan.start, plan.recipe)
            train_all(training, _wanted(cfg, plan), cfg.workers, folder)
            _finish(cfg, plan, run)
        else:
            say(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        say(_summary(run.result, folder))


def _step(plan: Plan) -> str:
    """The step with what has to be said of its space."""
    return "train" if isinstance(plan.start, FreshWeights) else "train --space mobilenetv3"


def _counts(cfg: TrainStepConfig) -> str:
    others = f", and {cfg.num_random} random ones" if cfg.num_random else ""
    return f"seeds {' '.join(map(str, cfg.seeds))}{others}"


def _random_name(place: int) -> str:
    return f"random{place}"


def _wanted(cfg: TrainStepConfig, plan: Plan) -> list[Wanted]:
    """The chosen architecture from every seed, random ones from the first."""
    ours = [Wanted(name="chosen", arch=plan.chosen, seed=seed) for seed in cfg.seeds]
    return ours + [
        Wanted(name=_random_name(place), arch=arch, seed=cfg.seeds[0])
        for place, arch in enumerate(plan.random, start=1)
    ]


def _finish(cfg: TrainStepConfig, plan: Plan, run: Run) -> None:
    task = plan.task
    networks = {seed: load_network(run.folder / network_file("chosen", seed)) for seed in cfg.seeds}
    for seed, network in networks.items():
        for point in network.notes["curve"]:
            run.log(int(point["step"]), {"valid_accuracy": point["accuracy"]}, split=f"seed{seed}")
    ours = TrainedArch(
        name="chosen",
        arch=arch_facts(plan.chosen, plan.space, task.num_classes, resolution=task.resolution),
        runs=[run_of(seed, network) for seed, network in networks.items()],
    )
    others = [
        TrainedArch(
            name=f"random {place}",
            arch=arch_facts(arch, plan.space, task.num_classes, resolution=task.resolution),
            runs=runs_of(run.folder, _random_name(place), cfg.seeds[:1]),
        )
        for place, arch in enumerate(plan.random, start=1)
    ]
    result = _result(plan, ours, others)
    facts = TrainFacts(
        dataset=dataset_facts(task),
        chosen=ours,
        random=others,
        interval=result["final_accuracy"]["interval"],
        predictions=_predictions(networks[cfg.seeds[0]], task),
        settings=settings_of(to_dict(plan.recipe)) | {"network": plan.space.name},
        commands=commands_of("metad2a", _step(plan), run.folder),
    )
    write_text(run.folder / "report.html", train_page(facts))
    run.finish(result)


def _result(plan: Plan, ours: TrainedArch, others: Sequence[TrainedArch]) -> dict[str, Any]:
    random = [
        {"arch": other.arch.text, "num_params": other.arch.num_params, "final_accuracy": other.runs[0].final_accuracy}
        for other in others
    ]
    first = ours.runs[0].final_accuracy
    return {
        "task": plan.task.id,
        "description": plan.task.description,
        "space": plan.space.name,
        "arch": ours.arch.text,
        "num_params": ours.arch.num_params,
        "macs": ours.arch.macs,
        "weights": [network_file("chosen", run.seed) for run in ours.runs],
        **measures_of(ours.runs),
        "random": random,
        "place": 1 + sum(other.runs[0].final_accuracy > first for other in others) if others else None,
    }


def _predictions(trained: TrainedNetwork, task: Task) -> PredictionFacts:
    shown = task.evaluation[:_SHOWN_PREDICTIONS]
    logits = predict(trained.network, task.images, shown, device=torch.device("cpu"))
    return PredictionFacts(images=task.images[shown], labels=task.labels[shown], logits=logits)


def _summary(result: Mapping[str, Any], folder: Path) -> str:
    final = result["final_accuracy"]
    within = "" if final["interval"] is None else f", 95 % interval +- {100 * final['interval']:.2f}"
    lines = [
        f"{result['description']}: {result['arch']}",
        f"final accuracy {100 * final['mean']:.2f} %{within}; {result['num_params']:,} parameters, "
        f"{result['macs']:,} MACs",
    ]
    if result["random"]:
        values = [other["final_accuracy"] for other in result["random"]]
        seed, ours = next(iter(final["seeds"].items()))
        lines.append(
            f"seed {seed}: {100 * ours:.2f} %, place {result['place']} of {len(values) + 1}; random ones: mean "
            f"{100 * statistics.fmean(values):.2f} %, best {100 * max(values):.2f} %"
        )
    lines.append(f"weights: {', '.join(str(folder / name) for name in result['weights'])}")
    return "\n".join([*lines, f"report: {folder / 'report.html'}"])
