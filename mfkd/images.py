"""Which images a step trains and validates on, from the section `dataset` of a pipeline file.

Source: Trofimov et al., arXiv 2006.08341, released code for Vega: parts of the training images, in their order.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from common.data.dataset import ImageDataset
from common.data.open import open_dataset
from common.data.tasks import Task, open_task
from common.experiment.config import UsageError
from mfkd.fields import Fields, as_number

HELD_OUT = 0.2
"""Last part of the training images that searches validate on where a file names none, as in version 1."""
_TRANSFORMS = ("RandomCrop", "RandomHorizontalFlip", "ToTensor", "ToPILImage", "Normalize")
_PART = re.compile(r".+/\d+(-\d+)?")
"""Some classes of a set, such as `cifar100/0-9`."""
_ROUNDING = 1e-9  # 0.29 of 100 images are 29


@dataclass(frozen=True, kw_only=True)
class Images:
    """Parts of a dataset.

    Attributes:
        dataset: what `open_dataset` takes.
        data_path: folder of the dataset that the file names; the flag and the variable for the data root win over it.
        resolution: height and width in pixels.
        train_portion: the first part of the training images that is trained on, in (0, 1].
        min_images: a larger part is trained on in searches where that is fewer images.
        valid_from: validation images are the training images from this share on; None holds out the last fifth.
        subset: "first" takes the images in their order, "stratified" every class in proportion, for any portion.
        validate_on: "test" searches on test images, as published files do; "train" on the held-out ones.
    """

    dataset: str
    data_path: str | None = None
    resolution: int = 32
    train_portion: float = 1.0
    min_images: int = 0
    valid_from: float | None = None
    subset: Literal["first", "stratified"] = "first"
    validate_on: Literal["train", "test"] = "train"

    def __post_init__(self) -> None:
        """Check the parts.

        Raises:
            UsageError: a portion outside (0, 1], or images that are both trained and validated on.
        """
        if not 0 < self.train_portion <= 1:
            raise UsageError(f"train_portion is {self.train_portion}: a part in (0, 1] is needed")
        if self.valid_from is not None and not self.train_portion <= self.valid_from < 1:
            raise UsageError(
                f"train_portion is {self.train_portion} for training and {self.valid_from} for validation: images from "
                "the latter on are validated on, so it must be below 1 and not below the former"
            )
        if self.resolution < 1:
            raise UsageError(f"resolution is {self.resolution}: 1 or more pixels are needed")


def read_dataset(fields: Fields) -> tuple[Images, dict[str, Any]]:
    """The section `dataset` of a step.

    Returns:
        The images, and what it says of a recipe: batch size and augmentation.

    Raises:
        UsageError: an unknown key, or a value out of range.
    """
    name = fields.text("type")
    valid = fields.one_of("val", "valid")
    common = dict(fields.inner("common").values)
    train = Fields(common | fields.inner("train").values, fields.at("train"), fields.notes)
    held = Fields(common | fields.inner(valid).values, fields.at(valid), fields.notes)
    test = Fields(common | fields.inner("test").values, fields.at("test"), fields.notes)
    share = held.number("train_portion", 1.0)
    images = Images(
        dataset=name,
        data_path=train.text("data_path") if "data_path" in train else None,
        resolution=fields.integer("resolution", 32),
        train_portion=train.number("train_portion", 1.0),
        valid_from=share if share < 1 else None,
        subset=fields.choice("subset", {"first": "first", "stratified": "stratified"}, "first"),
        validate_on=fields.choice("compat_val", {"train": "train", "test": "test"}, "train"),
    )
    batch_size, augmentation = train.integer("batch_size", 256), _augmentation(train)
    for part in (train, held, test):
        for key in ("data_path", "batch_size", "train_portion", "transforms", "shuffle", "num_workers", "download"):
            part.get(key)
        part.get("drop_last")
        part.finish()
    if "drop_last" in train and not train.truth("drop_last", True):
        train.notes.append(f"{train.at('drop_last')}: a last partial batch is always left out of training")
    fields.finish()
    return images, {"batch_size": batch_size, **augmentation}


def _augmentation(fields: Fields) -> dict[str, Any]:
    """Padding and flip of a list of transforms; without one, those of the trainer."""
    given = fields.get("transforms")
    if given is None:
        return {}
    if not isinstance(given, list):
        raise UsageError(f"{fields.at('transforms')} is {given!r}: a list is needed")
    found: dict[str, Fields] = {}
    for index, one in enumerate(given):
        inner = Fields(one, f"{fields.at('transforms')}[{index}]", fields.notes)
        found[inner.choice("type", {name: name for name in _TRANSFORMS})] = inner
    padding = as_number(found["RandomCrop"].values.get("padding", 0)) if "RandomCrop" in found else 0
    if not isinstance(padding, int):
        raise UsageError(f"{found['RandomCrop'].at('padding')} is {padding!r}: a whole number is needed")
    return {"padding": padding, "flip": "yes" if "RandomHorizontalFlip" in found else "no"}


def open_images(images: Images, *, data_root: Path | None, seed: int) -> ImageDataset:
    """Decode the dataset; the last one is kept, as all steps of a pipeline mostly have the same.

    Raises:
        FileNotFoundError, ValueError: see `open_dataset`.
    """
    return _opened(images.dataset, images.resolution, data_root_of(images, data_root), seed)


@lru_cache(maxsize=1)
def _opened(dataset: str, resolution: int, data_root: Path | None, seed: int) -> ImageDataset:
    if not _PART.fullmatch(dataset) or Path(dataset).expanduser().exists():
        return open_dataset(dataset, resolution=resolution, data_root=data_root, seed=seed)
    task = open_task(dataset, resolution=resolution, data_root=data_root, seed=seed)
    return ImageDataset(
        name=task.id,
        images=task.images,
        labels=task.labels,
        class_names=task.class_names,
        train=task.train,
        valid=task.train[:0],
        test=task.evaluation,
        description=task.description,
        flip=task.flip,
    )


def data_root_of(images: Images, given: Path | None) -> Path | None:
    """Data root: the one given or $NAS_DATA (None stands for it), else what the file names."""
    if given is None and images.data_path is not None and not os.environ.get("NAS_DATA"):
        return Path(images.data_path).expanduser()
    return given


def search_task(images: Images, dataset: ImageDataset) -> Task:
    """Training images of a search and the images that it validates on: held-out training images, unless told otherwise.

    Raises:
        ValueError: a part without images, or a class that has none to train on.
    """
    pool = _ordered(images, dataset)
    start = int((images.valid_from or 1 - HELD_OUT) * len(pool) + _ROUNDING)
    on_test = images.validate_on == "test"
    wanted = max(int(images.train_portion * len(pool) + _ROUNDING), images.min_images)
    train = pool[: wanted if on_test else min(wanted, start)]
    if not on_test:
        return _task(images, dataset, train, pool[start:], f"valid {start}-{len(pool)}")
    if not len(dataset.test):
        raise ValueError(f"{dataset.name} has no test images to search on: leave compat_val out")
    return _task(images, dataset, train, dataset.test, "test")


def final_task(images: Images, dataset: ImageDataset) -> Task:
    """Training images of a final training, and the test images; without test images those that searches hold out.

    Raises:
        ValueError: a class has no image to train on.
    """
    if not len(dataset.test):
        return search_task(images, dataset)
    pool = _ordered(images, dataset)
    train = pool[: int(images.train_portion * len(pool) + _ROUNDING)]
    return _task(images, dataset, train, dataset.test, "test")


def _ordered(images: Images, dataset: ImageDataset) -> Tensor:
    """Training images in the order in which parts take them; those of a validation part follow."""
    pool = torch.cat([dataset.train, dataset.valid])
    if images.subset == "first":
        return pool
    labels = dataset.labels[pool]
    by_class = labels.argsort(stable=True)
    counts = labels.bincount(minlength=dataset.num_classes)
    first = (counts.cumsum(0) - counts)[labels[by_class]]
    turn = torch.empty(len(pool), dtype=torch.float64)
    turn[by_class] = (torch.arange(len(pool)) - first).double().add(0.5) / counts[
        labels[by_class]
    ]  # place within its class
    return pool[turn.argsort(stable=True)]


def _task(images: Images, dataset: ImageDataset, train: Tensor, evaluation: Tensor, evaluated: str) -> Task:
    counts = dataset.labels[train].bincount(minlength=dataset.num_classes)
    if not (counts > 0).all() or not len(evaluation):
        empty = [dataset.class_names[index] for index in (counts == 0).nonzero().flatten().tolist()]
        raise ValueError(
            f"{len(train)} training and {len(evaluation)} evaluation images of {dataset.name} leave nothing for "
            f"{', '.join(empty[:5]) or 'evaluation'}: raise train_portion (--low.portion), or take subset: stratified"
        )
    name = f"{dataset.name}, {images.subset} {len(train)}, {evaluated}"
    return Task(
        id=name,
        description=f"{dataset.description}; {images.subset} {len(train)} images, evaluated on {len(evaluation)}",
        images=dataset.images,
        labels=dataset.labels,
        class_names=dataset.class_names,
        train=train,
        evaluation=evaluation,
        flip=dataset.flip,
    )


def check_classes(given: Mapping[str, int | None], num_classes: int, dataset: str) -> None:
    """Refuse numbers of classes that are not the dataset's.

    Args:
        given: numbers by the path of their key; None where the file says nothing.
        num_classes: of the dataset.
        dataset: its name.

    Raises:
        UsageError: one differs.
    """
    for key, value in given.items():
        if value is not None and value != num_classes:
            raise UsageError(f"{key} is {value}, but {dataset} has {num_classes} classes: give {num_classes}")
