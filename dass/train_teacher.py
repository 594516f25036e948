"""Step `train-teacher`: the network that students learn from.

Source: Lee et al., ICLR 2023, released code.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.run import Run, open_run
from common.kd.recipe import Recipe
from common.kd.teacher import is_named_teacher, load_teacher
from common.kd.trainer import Log, train
from common.report.facts import commands_of, dataset_facts, run_facts, settings_of
from common.spaces.resnet import ResNetSpace, check_resolution
from common.store.weights import save_weights
from dass.facts import network_facts
from dass.networks import TrainedNetwork
from dass.report import teacher_page
from dass.report_inputs import NetworkFacts, TeacherFacts
from dass.teachers import TEACHER_RECIPE, TeacherConfig, fit_teacher, load_family_teacher, teacher_folder

TEACHER_FILE = "teacher.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainTeacherConfig(StepConfig):
    """Train a teacher on a dataset: the full network of the residual space, or any timm network."""

    data: str = "digits"
    """A known name (`cub`), a folder of class folders, a packed .npz, `tiny_imagenet/3`, or classes `cifar100/0-9`."""
    resolution: int = 64
    """Side of the images, divisible by 8."""
    model: str = "resnet"
    """`resnet`: the space's full network, which `search` needs; `timm:NAME`: for `distill` only."""
    space: ResNetSpace = field(default_factory=ResNetSpace)
    """Widths and depth of the residual teacher."""
    recipe: Recipe = TEACHER_RECIPE
    """The training; its loss is ce."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_resolution(self.resolution)
        if self.model != "resnet" and not is_named_teacher(self.model):
            raise ValueError(f"model {self.model!r}: resnet, or timm:NAME such as timm:resnet18")
        if self.recipe.loss != "ce":
            raise ValueError(f"a teacher learns from labels: recipe.loss is {self.recipe.loss!r} and must be ce")


def train_teacher(cfg: TrainTeacherConfig) -> Path:
    """Run the step; returns the teacher's file."""
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    folder = cfg.out or teacher_folder(task.id)
    with open_run(folder, program="dass", step="train-teacher", config=cfg, products=[TEACHER_FILE]) as run:
        if run.result is None:
            print(f"teacher of {task.description}: {len(task.train)} training images, into {folder}", flush=True)
            if cfg.model == "resnet":
                _train_resnet(cfg, task, run)
            else:
                _train_timm(cfg, task, run)
        assert run.result is not None
        print(
            f"teacher of {task.description}: best {100 * run.result['best_accuracy']:.2f} %, "
            f"final {100 * run.result['final_accuracy']:.2f} %"
        )
        print(f"weights: {folder / TEACHER_FILE}")
    return folder / TEACHER_FILE


def ensure_teacher(cfg: StepConfig, teacher: TeacherConfig, task: Task, space: ResNetSpace, data: str) -> Path:
    """File of a residual teacher of a task: the one asked for, the one that was trained before, or a new one.

    Raises:
        UsageError: the teacher does not fit the task.
    """
    if teacher.file is not None:
        load_family_teacher(teacher.file, task)
        return Path(teacher.file)
    file = teacher_folder(task.id) / TEACHER_FILE
    if file.exists():
        found = load_family_teacher(file, task)
        if found.space.name == space.name:
            return file
    return train_teacher(
        TrainTeacherConfig(
            data=data,
            resolution=task.resolution,
            space=space,
            recipe=teacher.recipe,
            gpu=cfg.gpu,
            data_root=cfg.data_root,
            seed=cfg.seed,
            threads=cfg.threads,
            deterministic=cfg.deterministic,
            debug=cfg.debug,
        )
    )


def _train_resnet(cfg: TrainTeacherConfig, task: Task, run: Run) -> None:
    teacher, curve = fit_teacher(
        task,
        cfg.space,
        cfg.recipe,
        seed=cfg.seed,
        device=resolve_device(cfg.gpu),
        file=run.folder / TEACHER_FILE,
        checkpoint=run.checkpoint / "training.pt",
        log=_logger(run),
    )
    facts = network_facts("teacher", cfg.space, teacher.arch, task, accuracy=teacher.best_accuracy)
    _finish(cfg, task, run, facts, curve, accuracies=_accuracies(teacher))


def _train_timm(cfg: TrainTeacherConfig, task: Task, run: Run) -> None:
    device = resolve_device(cfg.gpu)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        network = load_teacher(cfg.model, num_classes=task.num_classes, resolution=task.resolution, device=device)
    outcome = train(
        [network.requires_grad_(True)],
        task,
        cfg.recipe,
        device=device,
        seed=cfg.seed,
        checkpoint=run.checkpoint / "training.pt",
        log=_logger(run),
        description=f"{cfg.model} on {task.id}",
    )[0]
    metadata = {"kind": "timm-network", "model": cfg.model, "task": task.id}
    save_weights(run.folder / TEACHER_FILE, outcome.best_state, metadata)
    facts = NetworkFacts(
        name="teacher", architecture=cfg.model, num_params=_num_params(network), macs=0, accuracy=outcome.best_accuracy
    )
    accuracies = {n: getattr(outcome, f"{n}_accuracy") for n in ("best", "final", "initial")}
    _finish(cfg, task, run, facts, outcome.curve, accuracies=accuracies)


def _logger(run: Run) -> Log:
    """Writes an epoch's measures at once: the trainer keeps its state in a file of its own."""

    def log(step: int, prefix: str, values: dict[str, Tensor | float]) -> None:
        run.log(step, values)
        run.flush()

    return log


def _num_params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _accuracies(teacher: TrainedNetwork) -> dict[str, float]:
    return {n: getattr(teacher, f"{n}_accuracy") for n in ("best", "final", "initial")}


def _finish(
    cfg: TrainTeacherConfig,
    task: Task,
    run: Run,
    network: NetworkFacts,
    curve: list[dict[str, float]],
    *,
    accuracies: dict[str, float],
) -> None:
    facts = TeacherFacts(
        dataset=dataset_facts(task),
        teacher=network,
        run=run_facts(cfg.seed, accuracies, curve),
        settings=settings_of(to_dict(cfg.recipe)),
        commands=commands_of("dass", "train-teacher", run.folder, next_step=f"python -m dass search --data {cfg.data}"),
    )
    write_text(run.folder / "report.html", teacher_page(facts))
    result: dict[str, Any] = {
        "task": task.id,
        "description": task.description,
        "model": cfg.model,
        "num_params": network.num_params,
        "macs": network.macs,
        **{f"{name}_accuracy": value for name, value in accuracies.items()},
        "curve": curve,
        "recipe": to_dict(cfg.recipe),
    }
    run.finish(result)
