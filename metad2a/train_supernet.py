"""Step `train-supernet`: the MobileNetV3 supernet whose networks are the labels of `collect` and the start of `train`.

Source: Lee et al., ICLR 2021 took the released one of Cai et al., ICLR 2020; `import-official` brings that in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.experiment.seeds import derive_seed
from common.features.extractors import EXTRACTORS, load_extractor
from common.kd.learner import Outcome
from common.kd.recipe import Recipe
from common.report import Curve
from common.report.facts import commands_of, dataset_facts, settings_of
from common.spaces import MobileNetV3Space, MobileNetV3Supernet
from common.supernet import Shrinking, StoredSupernet, save_supernet, train_supernet
from metad2a.feature_teacher import fit_teacher
from metad2a.recipes import SUPERNET_RECIPE
from metad2a.subnet_report import SupernetFacts, supernet_page

FILE_NAME = "supernet.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainSupernetConfig(StepConfig):
    """Train a supernet of MobileNetV3 networks: the largest learns the labels, the others learn from it."""

    data: str = "tiny_imagenet"
    """A known name, a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 224
    """Side of the images: a multiple of 32, or of 4 with a first stride of 1."""
    network: MobileNetV3Space = field(default_factory=MobileNetV3Space)
    """Widths and first stride."""
    recipe: Recipe = SUPERNET_RECIPE
    """The training."""
    teacher: str = "none"
    """A frozen extractor of 32 px images (`compact`) with a linear classifier fitted to the data, which the largest
    network learns from by --recipe.loss kd; none: from labels alone."""
    shrinking: Shrinking = field(default_factory=Shrinking)
    """Which networks train in a step."""
    num_calibration: int = 2000
    """Training images for the batch statistics of every network that is measured."""
    is_half: bool = False
    """Store 16 instead of 32 bits a weight."""

    def __post_init__(self) -> None:
        """Check the fields."""
        self.network.check_side(self.resolution)
        if self.num_calibration < 1:
            raise ValueError(f"num_calibration is {self.num_calibration}; it must be at least 1")
        if self.teacher != "none" and self.teacher not in EXTRACTORS:
            raise ValueError(f"teacher is {self.teacher!r}; known are none, {', '.join(EXTRACTORS)}")
        if (self.teacher == "none") != (self.recipe.loss == "ce"):
            raise ValueError(
                f"teacher {self.teacher} with recipe.loss {self.recipe.loss}: none goes with ce, others with kd"
            )
        if self.network.resolutions:
            raise ValueError("network.resolutions: a supernet is trained on images of one size")


def run_train_supernet(cfg: TrainSupernetConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError, ValueError: as `open_task` and `train_supernet`.
        RuntimeError: the loss is not finite any more.
    """
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    folder = cfg.out or Path("exp/metad2a/train-supernet") / slug(task.id)
    with open_run(folder, program="metad2a", step="train-supernet", config=cfg, products=[FILE_NAME]) as run:
        if run.result is None:
            print(f"train-supernet: {cfg.network.name} on {task.description} -> {folder}", flush=True)
            _train(cfg, task, run)
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        _report(run.result, folder)


def _train(cfg: TrainSupernetConfig, task: Task, run: Run) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(cfg.seed, "supernet"))
        supernet = MobileNetV3Supernet(cfg.network.plan, task.num_classes)
    device = resolve_device(cfg.gpu)
    outcome = train_supernet(
        supernet,
        task,
        cfg.recipe,
        cfg.shrinking,
        device=device,
        teacher=None if cfg.teacher == "none" else fit_teacher(load_extractor(cfg.teacher), task, device),
        seed=cfg.seed,
        checkpoint=run.checkpoint / "supernet.pt",
        log=lambda step, prefix, values: run.log(step, values),
        description=task.id,
        num_calibration=cfg.num_calibration,
    )
    result = _result(cfg, task, outcome)
    notes = {
        "recipe": to_dict(cfg.recipe),
        "teacher": cfg.teacher,
        "shrinking": to_dict(cfg.shrinking),
        "seed": cfg.seed,
        **result,
    }
    stored = StoredSupernet(
        supernet=supernet.cpu().eval(),
        class_names=task.class_names,
        resolution=cfg.resolution,
        sources=(task.id,),
        notes=notes,
    )
    save_supernet(run.folder / FILE_NAME, stored, is_half=cfg.is_half)
    run.flush()
    write_text(run.folder / "report.html", supernet_page(_facts(cfg, task, outcome, run)))
    run.finish(result)


def _result(cfg: TrainSupernetConfig, task: Task, outcome: Outcome) -> dict[str, Any]:
    space, classes = cfg.network, task.num_classes
    return {
        "task": task.id,
        "description": task.description,
        "space": space.name,
        "resolution": cfg.resolution,
        "accuracy": outcome.final_accuracy,
        "smallest_accuracy": outcome.curve[-1]["smallest_accuracy"],
        "macs": space.cost(space.largest, classes, cfg.resolution).macs,
        "smallest_macs": space.cost(space.smallest, classes, cfg.resolution).macs,
        "seconds": outcome.seconds,
    }


def _facts(cfg: TrainSupernetConfig, task: Task, outcome: Outcome, run: Run) -> SupernetFacts:
    epochs = [point["epoch"] for point in outcome.curve]
    return SupernetFacts(
        dataset=dataset_facts(task),
        space=cfg.network.name,
        curves={
            name: Curve(epochs, [point[key] for point in outcome.curve])
            for name, key in (("largest network", "accuracy"), ("smallest network", "smallest_accuracy"))
        },
        settings=settings_of({**to_dict(cfg.recipe), **to_dict(cfg.shrinking), "seed": cfg.seed}),
        commands=commands_of("metad2a", "train-supernet", run.folder, _next(run.folder)),
    )


def _next(folder: Path) -> str:
    return f"python -m metad2a collect --space mobilenetv3 --supernet {folder / FILE_NAME}"


def _report(result: Mapping[str, Any], folder: Path) -> None:
    print(
        f"{result['description']}: largest network ({result['macs']:,} MACs) {100 * result['accuracy']:.2f} %, "
        f"smallest ({result['smallest_macs']:,} MACs) {100 * result['smallest_accuracy']:.2f} %"
    )
    print(f"supernet: {folder / FILE_NAME}\nreport: {folder / 'report.html'}\nnext: {_next(folder)}")
