"""A task: a dataset, or some of its classes, with a training and an evaluation side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.data.official import TINY_IMAGENET, stored_split
from common.data.open import is_path, open_source, resolve_root
from common.data.registry import canonical, known_names
from common.data.source import TEST, TRAIN, Indices, Source, decode, require_images

NUM_SPLITS = 10
"""Tiny ImageNet splits: five groups of classes, each with two halves that change places."""

GROUP_SIZE = 40
"""Classes in each of them."""

QUICKDRAW_SHOTS = 20
"""Training images of each QuickDraw class. Source: DaSS released code, get_dataloader.py."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Decoded images with a training and an evaluation side."""

    id: str
    """Stable id: `cub`, `tiny_imagenet/3`, `cifar100/0-39`, `folder:birds`."""
    description: str
    """One line that says which part of the set this is."""
    images: Tensor
    """(N, 3, R, R) uint8, RGB."""
    labels: Tensor
    """(N,) int64 in [0, number of classes)."""
    class_names: tuple[str, ...]
    train: Tensor
    """Indices of the training images, int64."""
    evaluation: Tensor
    """Indices of the images accuracy is measured on, int64."""
    flip: bool
    """Whether a mirrored image keeps its label."""
    seed: int = 0
    """Seed that parts were drawn with, where they were."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def resolution(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[-1])


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """Which rows of a source make a task, before anything is decoded."""

    id: str
    """Id of the task."""
    description: str
    """One line that says which part of the set this is."""
    classes: Indices
    """Labels of the source in the order of their new numbers."""
    train: Indices
    """Rows of the training images."""
    evaluation: Indices
    """Rows of the images accuracy is measured on."""

    def renumber(self, labels: Indices) -> Indices:
        """Position in `classes` of each label of the source."""
        order = np.argsort(self.classes)
        return order[np.searchsorted(self.classes[order], labels)].astype(np.int64)


def open_task(text: str | Path, *, resolution: int, data_root: Path | None = None, seed: int = 0) -> Task:
    """Decode the images of a task.

    Args:
        text: whatever `open_dataset` takes; `tiny_imagenet/0` .. `tiny_imagenet/9`, the ten splits of 40 classes; or
            `NAME/a-b`, classes a to b (both included) of a set or folder, numbered anew.
        resolution: height and width the images are brought to, in pixels.
        data_root: folder of the known sets; None: $NAS_DATA, else ./dataset.
        seed: of the Tiny ImageNet halves where they are not stored, and of the test part of sets without one.

    Returns:
        A whole set is trained on its train and valid parts and evaluated on its test part (on valid when there is no
        test part). QuickDraw is trained on the first 20 images of each class.

    Raises:
        FileNotFoundError: the folder, file or set is not there; the message says how to get it.
        ValueError: unknown name, class range outside the set, fewer than two classes, a class without training images,
            or nothing to evaluate on.
    """
    source, plan = plan_task(text, data_root=data_root, seed=seed)
    return _build(source, plan, resolution, seed)


def sample_images(
    source: Source, plan: TaskPlan, side: int, *, num_classes: int = 10, per_class: int = 6
) -> tuple[Tensor, Tensor]:
    """A few training images of a task, of classes spread over all, with nothing else decoded.

    Returns:
        (n, 3, side, side) uint8, and (n,) int64 labels as the task numbers them.
    """
    labels = plan.renumber(source.labels[plan.train])
    spread = np.linspace(0, len(plan.classes) - 1, min(len(plan.classes), num_classes))
    rows = np.concatenate([plan.train[labels == label][:per_class] for label in np.unique(spread.round().astype(int))])
    decoded = decode(source, rows, side)
    return decoded.images, torch.from_numpy(plan.renumber(source.labels[decoded.rows]))


def task_id(text: str | Path, *, data_root: Path | None = None) -> str:
    """Id that a task has once it is open, found without decoding an image; arguments and errors as in `open_task`."""
    return plan_task(text, data_root=data_root)[1].id


def plan_task(text: str | Path, *, data_root: Path | None = None, seed: int = 0) -> tuple[Source, TaskPlan]:
    """Where the images of a task are and which of them it has; nothing is decoded. Arguments and errors as above."""
    whole = is_path(text) and Path(text).expanduser().exists()
    ranged = None if whole else re.fullmatch(r"(.+)/(\d+)-(\d+)", str(text))
    numbered = None if whole else re.fullmatch(r"(.+)/(\d+)", str(text))
    head = ranged or numbered
    if numbered and canonical(numbered[1]) != TINY_IMAGENET:
        _refuse_number(numbered[1], numbered[0], data_root)
    source = open_source(head[1] if head else text, data_root=data_root, seed=seed)
    if numbered:
        plan = _tiny_imagenet_split(source, int(numbered[2]), seed)
    elif ranged:
        plan = _class_range(source, int(ranged[2]), int(ranged[3]))
    else:
        plan = _whole(source)
    return source, plan


def _refuse_number(name: str, text: str, data_root: Path | None) -> None:
    if canonical(name) in known_names(resolve_root(data_root)):
        raise ValueError(
            f"{text}: only {TINY_IMAGENET} has numbered splits; for some classes of {name} write {name}/0-9"
        )
    raise FileNotFoundError(f"there is no folder {text}, and {name!r} is no known dataset")


def _whole(source: Source) -> TaskPlan:
    held_out = TEST if (source.split == TEST).any() else int(source.split.max())
    evaluation = np.flatnonzero(source.split == held_out)
    train = np.flatnonzero(source.split != held_out)
    description = source.description
    if held_out == TRAIN:
        raise ValueError(f"{source.id} has training images only, none to evaluate on: use a set with a test part")
    if source.name == "quickdraw":
        train = np.concatenate([rows[:QUICKDRAW_SHOTS] for rows in _rows_of_classes(source, train)])
        description = f"{description}, trained on the first {QUICKDRAW_SHOTS} a class: {len(train)} images"
    classes = np.arange(len(source.class_names))
    return TaskPlan(id=source.id, description=description, classes=classes, train=train, evaluation=evaluation)


def _rows_of_classes(source: Source, rows: Indices) -> Sequence[Indices]:
    return [rows[source.labels[rows] == label] for label in range(len(source.class_names))]


def _class_range(source: Source, first: int, last: int) -> TaskPlan:
    num_classes = len(source.class_names)
    if not 0 <= first <= last < num_classes:
        raise ValueError(f"{source.id}/{first}-{last}: classes must be a rising range within 0-{num_classes - 1}")
    whole = _whole(source)
    classes = np.arange(first, last + 1)
    train, evaluation = (rows[np.isin(source.labels[rows], classes)] for rows in (whole.train, whole.evaluation))
    name = f"{source.id}/{first}-{last}"
    description = f"{whole.description}; classes {first} to {last}"
    return TaskPlan(id=name, description=description, classes=classes, train=train, evaluation=evaluation)


def _tiny_imagenet_split(source: Source, index: int, seed: int) -> TaskPlan:
    """Split 2g and 2g + 1: classes 40g .. 40g + 39, their training images cut in two halves, not stratified.

    Source: the recipe of the predecessor's released code; the official files were drawn without a seed.
    """
    if index >= NUM_SPLITS:
        raise ValueError(f"{TINY_IMAGENET}/{index}: the splits are numbered 0 to {NUM_SPLITS - 1}")
    stored = stored_split(source.origin, index) if source.origin is not None else None
    if stored is not None:
        classes, train, evaluation = stored
        _check_stored(source, index, *stored)
    else:
        group = index // 2
        classes = np.arange(GROUP_SIZE * group, GROUP_SIZE * (group + 1))
        pool = np.flatnonzero((source.split != TEST) & np.isin(source.labels, classes))
        shuffled = np.random.default_rng([seed, group]).permutation(pool)
        halves = shuffled[: len(pool) // 2], shuffled[len(pool) // 2 :]
        train, evaluation = halves if index % 2 == 0 else halves[::-1]
    name = f"{TINY_IMAGENET}/{index}"
    description = source.description.replace(TINY_IMAGENET, name, 1) + (", stored split" if stored else "")
    return TaskPlan(id=name, description=description, classes=classes, train=train, evaluation=evaluation)


def _check_stored(source: Source, index: int, classes: Indices, train: Indices, evaluation: Indices) -> None:
    rows = np.concatenate([train, evaluation])
    fits = rows.size and rows.min() >= 0 and rows.max() < (source.split == TRAIN).sum()
    if not fits or not np.isin(source.labels[rows], classes).all():
        raise ValueError(f"10_split/split_{index}.npz does not fit the images in {source.origin}: download both again")


def _build(source: Source, plan: TaskPlan, resolution: int, seed: int) -> Task:
    class_names = tuple(source.class_names[label] for label in plan.classes)
    require_images(plan.id, plan.renumber(source.labels[plan.train]), class_names)
    rows = np.concatenate([np.sort(plan.train), np.sort(plan.evaluation)])
    images, kept, _ = decode(source, rows, resolution)
    is_train = np.isin(kept, plan.train)
    labels = plan.renumber(source.labels[kept])
    require_images(plan.id, labels[is_train], class_names)
    if is_train.all():
        raise ValueError(f"{plan.id} has no image to evaluate on: use a set or folder with a test part")
    return Task(
        id=plan.id,
        description=plan.description,
        images=images,
        labels=torch.from_numpy(labels),
        class_names=class_names,
        train=torch.from_numpy(np.flatnonzero(is_train)),
        evaluation=torch.from_numpy(np.flatnonzero(~is_train)),
        flip=source.flip,
        seed=seed,
    )
