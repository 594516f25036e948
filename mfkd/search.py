"""Step `search`: find a network for a dataset by cheap distilled trainings and a few full ones.

Source: Trofimov et al., arXiv 2006.08341.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.tasks import task_id
from common.experiment.config import UsageError
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.report.facts import commands_of
from mfkd.config import GpMode, Mfkd1Config, MfKdConfig, StepConfig
from mfkd.execution import PRODUCTS, WorkConfig, check_steps, do_steps
from mfkd.pipeline import HighFidelity, SearchStep
from mfkd.plans import (
    Algorithm,
    FidelityOptions,
    SpaceOptions,
    TeacherOptions,
    check_resolution,
    images_of,
    low_fidelity,
    training_of,
)
from mfkd.report import search_page
from mfkd.report_inputs import SearchFacts
from mfkd.train_teacher import ensure_teacher
from mfkd.training import Place, task_of

PUBLISHED = ("cifar10", "cifar100")
"""Sets that the published searches were tried on and that a data root may hold."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions(WorkConfig):
    """Fields of the commands that search.

    Raises:
        ValueError: a number out of range.
    """

    data: str = "digits"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 32
    """Side of the images in pixels."""
    space: SpaceOptions = field(default_factory=SpaceOptions)
    """What is searched."""
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    """What distilled trainings learn from."""
    algorithm: Algorithm = "mfkd2"
    """mfkd1: random networks at low fidelity, then the best prediction; mfkd2: a Gaussian process proposes networks at
    low fidelity, then at high fidelity from the winner on; mf_kd: co-kriging of both."""
    low: FidelityOptions = field(default_factory=low_fidelity)
    """Cheap trainings: a part of the images, distilled."""
    high: FidelityOptions = field(default_factory=FidelityOptions)
    """Full trainings. The last fifth of the training images is held out at both, to compare networks on."""
    num_low: int = 10
    """Trainings at low fidelity (30 published for mfkd1, about 100 for mf_kd, which may add some)."""
    init_low: int = 5
    """Of them random ones; for mfkd2, as the others draw all of them."""
    num_high: int = 10
    """Trainings at high fidelity; mfkd1 has none."""
    init_high: int = 5
    """Of them the start and random ones, before the first proposal (20 published for mf_kd)."""
    gp: GpMode = "wellposed"
    """Gaussian process: with noise and priors, or as in the published runs, or as scikit-learn does it today."""
    kappa: float = 0.5
    """Predicted deviations that are added to the mean of a proposal."""
    risk: float = 0.0
    """For mfkd1: predicted deviations taken off the mean before the best is chosen."""

    def __post_init__(self) -> None:
        """Check the numbers, by making what they are for."""
        check_resolution(self.resolution)
        search_steps(self, Path("teacher"))


@dataclass(frozen=True, kw_only=True)
class SearchConfig(SearchOptions):
    """Find a network for a dataset by cheap distilled trainings, Gaussian processes and a few full trainings.

    A missing teacher is trained first. Searches validate on held-out training images, never on test images.
    """


def search_steps(cfg: SearchOptions, teacher: Path) -> list[SearchStep]:
    """The search as steps of a pipeline.

    Raises:
        ValueError: numbers that do not go together; the message says which field.
    """
    low_images, high_images = (images_of(cfg.data, cfg.resolution, one) for one in (cfg.low, cfg.high))
    low, high = (training_of(one.recipe, cfg.seed, teacher) for one in (cfg.low, cfg.high))
    space: Any = {"space": cfg.space.space, "num_classes": None}
    if cfg.algorithm == "mfkd1":
        if cfg.num_low < 2:
            raise UsageError(f"num_low is {cfg.num_low}: a process needs at least 2 evaluations")
        first = Mfkd1Config(max_samples=cfg.num_low, gp=cfg.gp, risk=cfg.risk, seed=cfg.seed)
        return [SearchStep(name="low_fidelity", images=low_images, algorithm=first, training=low, **space)]
    if cfg.algorithm == "mf_kd":
        if cfg.gp != "wellposed":
            raise UsageError(f"gp is {cfg.gp!r}: mf_kd has the process 'wellposed' alone")
        most = min(cfg.num_low, cfg.num_high)
        if not 1 <= cfg.init_high <= most:
            raise UsageError(
                f"init_high is {cfg.init_high}: 1 to {most} are possible, the least of num_low and num_high"
            )
        joint = MfKdConfig(
            num_low=cfg.num_low, num_high=cfg.init_high, max_high=cfg.num_high, kappa=cfg.kappa, seed=cfg.seed
        )
        full = HighFidelity(images=high_images, training=high)
        return [
            SearchStep(name="both_fidelities", images=low_images, algorithm=joint, training=low, high=full, **space)
        ]
    numbers = {"low": (cfg.init_low, cfg.num_low), "high": (cfg.init_high, cfg.num_high)}
    algorithms = {}
    for name, (init, num) in numbers.items():
        if not 1 <= init <= num:
            raise UsageError(f"init_{name} is {init}: 1 to num_{name} ({num}) are possible")
        algorithms[name] = StepConfig(init_samples=init, max_samples=num, kappa=cfg.kappa, gp=cfg.gp, seed=cfg.seed)
    return [
        SearchStep(name="low_fidelity", images=low_images, algorithm=algorithms["low"], training=low, **space),
        SearchStep(name="high_fidelity", images=high_images, algorithm=algorithms["high"], training=high, **space),
    ]


def teacher_of_search(cfg: SearchOptions) -> Path:
    """The teacher's file, trained where it is not there; a name that is not read where nothing is distilled."""
    if all(one.recipe.loss == "ce" for one in (cfg.low, cfg.high)):
        return Path("none")
    return ensure_teacher(cfg, cfg.teacher, cfg.space, data=cfg.data, resolution=cfg.resolution)


def search(cfg: SearchConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError, ValueError: there is no such dataset or teacher, or a class has no image.
        RuntimeError: the teacher's file holds another network, or a training diverged.
    """
    task = task_id(cfg.data, data_root=cfg.data_root)
    folder = cfg.out or search_folder(task)
    with open_run(folder, program="mfkd", step="search", config=cfg, products=PRODUCTS) as run:
        if run.result is None:
            print(f"search: {_counts(cfg)} for {task} -> {folder}", flush=True)
            teacher = teacher_of_search(cfg)
            steps = search_steps(cfg, teacher)
            check_steps(steps, cfg)
            _finish(cfg, run, task, steps, do_steps(steps, cfg, run, print))
        else:
            print(f"{folder} is finished; --restart searches anew")
        assert run.result is not None
        _report(run.result, cfg, folder)


def search_folder(task: str) -> Path:
    """Run folder of a search when no other is asked for."""
    return Path("exp/mfkd/search") / slug(task)


def _counts(cfg: SearchConfig) -> str:
    high = "" if cfg.algorithm == "mfkd1" else f" and {cfg.num_high} at high fidelity"
    return f"{cfg.algorithm}, {cfg.num_low} trainings at low{high} of {cfg.space.space.size():,} networks"


def _finish(
    cfg: SearchConfig, run: Run, task: str, steps: Sequence[SearchStep], results: Sequence[dict[str, Any]]
) -> None:
    place = Place(data_root=cfg.data_root, data_seed=cfg.seed, gpu=cfg.gpu, scratch=run.folder)
    winner = results[-1]["winner"]
    facts = SearchFacts(
        name=task,
        task=task_of(steps[-1].images, place),
        steps=results,
        winner=winner,
        space=cfg.space.space,
        recipes={"Low fidelity": cfg.low, "High fidelity": cfg.high},
        commands=commands_of("mfkd", "search", run.folder, _next(cfg)),
        algorithm=cfg.algorithm,
        seed=cfg.seed,
    )
    write_text(run.folder / "report.html", search_page(facts))
    run.finish(
        {
            "task": task,
            "data": cfg.data,
            "description": results[-1]["description"],
            "algorithm": cfg.algorithm,
            "chosen": [{"arch": winner["architecture"], **winner}],
            "training_macs": sum(result["training_macs"] for result in results),
            "seconds": sum(result["seconds"] for result in results),
            "steps": list(results),
        }
    )


def _next(cfg: SearchConfig) -> str:
    return f"python -m mfkd distill --data {cfg.data}   # with the --config of this search"


def _report(result: dict[str, Any], cfg: SearchConfig, folder: Path) -> None:
    chosen = result["chosen"][0]
    if chosen["accuracy"] is None:
        known = f"predicted {100 * chosen['prediction']['mean']:.2f} % at low fidelity, not trained yet"
    else:
        known = f"{100 * chosen['accuracy']:.2f} % on validation images"
    num = sum(step["num_evaluations"] for step in result["steps"])
    print(
        f"chosen: {chosen['arch']}, {known}; {chosen['num_params']:,} parameters, {chosen['macs']:,} MACs\n"
        f"{num} trainings in {result['seconds']:.0f} s\n"
        f"tables: {folder / 'output'}/*/output.csv, pareto_front.csv beside each\n"
        f"report: {folder / 'report.html'}\nnext: {_next(cfg)}"
    )
