"""Images of a run: those that the blocks learn from, those that paths are rated on, and the batch for statistics."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.data.batches import normalise
from common.data.tasks import Task
from common.experiment.names import slug
from common.experiment.seeds import derive_seed, generator
from common.kd.recipe import Recipe
from common.kd.views import TrainingSet
from dna.block_training import Distill
from dna.teacher import Teacher

Part = Literal["held_out", "evaluation"]
HELD_OUT = 19 * 64
"""Images that paths are rated on: 19 batches of 64, the amount of the released code."""


def step_folder(step: str, task: str) -> Path:
    """Folder that a step on a dataset takes when it is given no other."""
    return Path("exp/dna") / step / slug(task)


def split_task(task: Task, num: int, seed: int) -> tuple[Task, Tensor]:
    """Hold training images out for the rating.

    The released code rates on the images that accuracy is reported on, the first of them in the order of their
    classes; these are drawn from the training side, from all classes alike.

    Args:
        task: the whole dataset.
        num: how many; at most half of the training images.
        seed: of the drawing.

    Returns:
        The task without them, and their rows; any run of them holds the classes in equal shares.

    Raises:
        ValueError: there are too few training images.
    """
    if not 1 <= num <= len(task.train) // 2:
        raise ValueError(
            f"hold_out is {num} and {task.id} has {len(task.train)} training images: hold out at least 1 and at most "
            "half of them"
        )
    rows = stratified(task.labels[task.train], num, seed)
    kept = torch.ones(len(task.train), dtype=torch.bool)
    kept[rows] = False
    return replace(task, train=task.train[kept]), task.train[rows]


def stratified(labels: Tensor, num: int, seed: int) -> Tensor:
    """Positions of images, one of each class in turn, in random order inside a class.

    Args:
        labels: (N,) int64.
        num: how many, at most N.
        seed: of the drawing.
    """
    draws = generator(seed, "hold out")
    shuffled = torch.randperm(len(labels), generator=draws)
    order = labels[shuffled].argsort(stable=True)
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    turn = torch.arange(len(labels)) - starts[labels[shuffled][order]]  # how many of its class come before
    return shuffled[order][turn.argsort(stable=True)][:num]


def training_set(task: Task, distill: Distill, device: torch.device, seed: int) -> TrainingSet:
    """Batches that blocks learn from: shuffled, shifted, mirrored, in [-1, 1].

    Raises:
        ValueError: there are fewer training images than a batch.
    """
    if len(task.train) < distill.batch_size:
        raise ValueError(
            f"{task.id} has {len(task.train)} training images besides those held out, fewer than a batch of "
            f"{distill.batch_size}: lower --distill.batch-size or --hold-out"
        )
    recipe = Recipe(
        loss="ce",
        epochs=distill.epochs,
        epoch_images=distill.epoch_images,
        batch_size=distill.batch_size,
        padding=distill.padding,
        flip=distill.flip,
    )
    return TrainingSet(task, recipe, device, seed)


def recalibration_batch(task: Task, distill: Distill, teacher: Teacher, device: torch.device, seed: int) -> Tensor:
    """One augmented training batch, the same for every run of a seed, as the teacher takes it."""
    data = training_set(task, distill, device, derive_seed(seed, "recalibration"))
    return _laid_out(teacher.images(data.batch(0).images))


def batches_of(
    task: Task, rows: Tensor, teacher: Teacher, *, batch_size: int, device: torch.device
) -> Sequence[Tensor]:
    """Images of some rows as the teacher takes them, batch by batch; a single last image joins the batch before it."""
    parts = list(torch.split(rows, batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return [_laid_out(teacher.images(normalise(task.images[part.to(task.images.device)].to(device)))) for part in parts]


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
