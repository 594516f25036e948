"""Step `meta-train`: train the supernet, block by block, from a teacher.

Source: Li et al., CVPR 2020, section 3.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.run import Run, open_run
from common.kd.guide import weights_digest
from common.report.facts import commands_of, read_curves, settings_of
from dna.artifacts import TrainedSupernet, save_supernet
from dna.block_training import BlockLearner, Distill, Lesson, build_learners, held_out_losses, train_blocks
from dna.images import HELD_OUT, batches_of, split_task, step_folder, training_set
from dna.report import meta_train_page
from dna.report_inputs import MetaTrainFacts
from dna.space import BlockSpace
from dna.supernet import Supernet
from dna.teacher import TeacherConfig, check_sides, load_teacher
from dna.train_teacher import teacher_file

SUPERNET_FILE = "supernet.safetensors"


@dataclass(frozen=True, kw_only=True)
class MetaTrainConfig(StepConfig):
    """Train the supernet: each block from the teacher's feature before its stage to that after it."""

    data: str = "imagenet"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 224
    """Side of the images in pixels; a multiple of all strides together."""
    space: BlockSpace = field(default_factory=BlockSpace)
    """Which networks."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """What guides the blocks."""
    distill: Distill = field(default_factory=Distill)
    """The training."""
    hold_out: int = HELD_OUT
    """Training images, of all classes alike, that no block sees: paths are rated on them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        self.space.check_resolution(self.resolution)
        if self.hold_out < 2:
            raise ValueError(f"hold_out is {self.hold_out}; it must be 2 or more")


def supernet_file(task: str) -> Path:
    """Where a dataset's supernet is kept."""
    return step_folder("meta-train", task) / SUPERNET_FILE


def weights_of(teacher: TeacherConfig, task: str) -> Path | None:
    """The teacher's file: the one that is given, or the one of `train-teacher`; None for timm's own weights."""
    if teacher.file is not None:
        return teacher.file
    return None if teacher.pretrained else teacher_file(task)


def meta_train(cfg: MetaTrainConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: there are no such images, or no weights of the teacher.
        ValueError: the teacher has no such stages, or its sides are not those of the space.
        RuntimeError: a loss is not finite, or a file is damaged.
    """
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    device = resolve_device(cfg.gpu)
    file = weights_of(cfg.teacher, task.id)
    teacher = load_teacher(cfg.teacher, file, num_classes=task.num_classes, device=device)
    shapes = teacher.shapes(cfg.resolution, device)
    check_sides(shapes, cfg.space, cfg.resolution)
    learned, rows = split_task(task, cfg.hold_out, cfg.seed)
    data = training_set(learned, cfg.distill, device, cfg.seed)
    folder = cfg.out or step_folder("meta-train", task.id)
    with open_run(folder, program="dna", step="meta-train", config=cfg, products=[SUPERNET_FILE]) as run:
        if run.result is None:
            print(
                f"meta-train: {cfg.space.name} from {cfg.teacher.model} on {task.description} -> {folder}", flush=True
            )
            held_out = batches_of(task, rows, teacher, batch_size=cfg.distill.batch_size, device=device)
            lesson = Lesson(teacher=teacher, data=data, held_out=held_out, seed=cfg.seed)
            _train(cfg, task, lesson, run, widths=tuple(width for width, _ in shapes))
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        _report(run.result, folder)


def _train(cfg: MetaTrainConfig, task: Task, lesson: Lesson, run: Run, *, widths: tuple[int, ...]) -> None:
    start, device = time.monotonic(), lesson.data.device
    lesson.teacher.network.to(memory_format=torch.channels_last)
    supernet = Supernet(cfg.space, widths, cfg.seed).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learners = build_learners(supernet, cfg.distill)
    digest = weights_digest(lesson.teacher.network)
    train_blocks(learners, lesson, cfg.distill, run)
    save_supernet(run.folder / SUPERNET_FILE, _trained(cfg, task, supernet, learners, widths=widths, digest=digest))
    final = held_out_losses(learners, lesson, cfg.distill.teacher_statistics, cfg.distill.epochs)
    _finish(cfg, task, run, final, supernet=supernet, digest=digest, seconds=time.monotonic() - start)


def _trained(
    cfg: MetaTrainConfig,
    task: Task,
    supernet: Supernet,
    learners: list[BlockLearner],
    *,
    widths: tuple[int, ...],
    digest: str,
) -> TrainedSupernet:
    weights: dict[str, Tensor] = supernet.state_dict()
    for learner in learners:
        prefix = f"blocks.{learner.stage}.{learner.cell}."
        weights |= {prefix + name: value for name, value in learner.rated().state_dict().items()}
    file = weights_of(cfg.teacher, task.id)
    return TrainedSupernet(
        weights=weights,
        space=cfg.space,
        teacher_widths=widths,
        teacher=cfg.teacher,
        teacher_file=None if file is None else str(file),
        teacher_digest=digest,
        task=task.id,
        num_classes=task.num_classes,
        resolution=cfg.resolution,
        hold_out=cfg.hold_out,
        seed=cfg.seed,
        distill=cfg.distill,
    )


def _finish(
    cfg: MetaTrainConfig,
    task: Task,
    run: Run,
    final: Mapping[str, Tensor],
    *,
    supernet: Supernet,
    digest: str,
    seconds: float,
) -> None:
    run.flush()
    curves = read_curves(run.folder)
    losses = {name: float(value) for name, value in final.items()}
    num_params = sum(parameter.numel() for parameter in supernet.parameters())
    facts = MetaTrainFacts(
        dataset=task.description,
        teacher=cfg.teacher.model,
        num_params=num_params,
        training={name: curves["train", f"{name}/loss"] for name in losses},
        validation={name: curves["valid", f"{name}/loss"] for name in losses},
        settings=settings_of({**to_dict(cfg.distill), "cells": list(cfg.space.cells), "hold out": cfg.hold_out}),
        commands=commands_of("dna", "meta-train", run.folder, next_step=f"python -m dna search --data {cfg.data}"),
    )
    write_text(run.folder / "report.html", meta_train_page(facts))
    result: dict[str, Any] = {
        "task": task.id,
        "description": task.description,
        "teacher": cfg.teacher.model,
        "teacher_digest": digest,
        "space": to_dict(cfg.space),
        "num_params": num_params,
        "losses": losses,
        "seconds": seconds,
    }
    run.finish(result)


def _report(result: Mapping[str, Any], folder: Path) -> None:
    shown = ", ".join(f"{name} {value:.4f}" for name, value in result["losses"].items())
    print(
        f"{result['num_params'] / 1e6:.2f} M parameters in the blocks; mean squared error of random paths on held-out "
        f"images: {shown}\nsupernet: {folder / SUPERNET_FILE}\nreport: {folder / 'report.html'}"
    )
