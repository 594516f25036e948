"""Full image sets in the layouts of torchvision; nothing is downloaded here."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.data.source import TEST, TRAIN, VALID, Source

Arguments = Mapping[str, str | bool]


class Layout(NamedTuple):
    """How torchvision names a set and its parts."""

    class_name: str
    marker: str
    """Path below torchvision's root that is there when the set is."""
    parts: Mapping[int, Arguments]
    """What opens the TRAIN, VALID and TEST part."""
    labels: Callable[[Any], Any] = lambda part: part.targets
    """Labels of an opened part."""
    files: Callable[[Any], Sequence[str | Path]] | None = None
    """Image files of an opened part, in order; None where torchvision holds the images in memory."""


TWO_FLAGS: Mapping[int, Arguments] = {TRAIN: {"train": True}, TEST: {"train": False}}
TWO_SPLITS: Mapping[int, Arguments] = {TRAIN: {"split": "train"}, TEST: {"split": "test"}}
THREE_SPLITS: Mapping[int, Arguments] = {TRAIN: {"split": "train"}, VALID: {"split": "val"}, TEST: {"split": "test"}}

# torchvision has no public access to labels or files without decoding every image, hence the private names
LAYOUTS = {
    "aircraft": Layout(
        "FGVCAircraft", "fgvc-aircraft-2013b", THREE_SPLITS, lambda part: part._labels, lambda part: part._image_files
    ),
    "cifar10": Layout("CIFAR10", "cifar-10-batches-py", TWO_FLAGS),
    "cifar100": Layout("CIFAR100", "cifar-100-python", TWO_FLAGS),
    "dtd": Layout("DTD", "dtd/dtd/labels", THREE_SPLITS, lambda part: part._labels, lambda part: part._image_files),
    "mnist": Layout("MNIST", "MNIST/raw", TWO_FLAGS),
    "pets": Layout(
        "OxfordIIITPet",
        "oxford-iiit-pet",
        {TRAIN: {"split": "trainval"}, TEST: {"split": "test"}},
        lambda part: part._labels,
        lambda part: part._images,
    ),
    "stanford_cars": Layout(
        "StanfordCars",
        "stanford_cars/devkit",
        TWO_SPLITS,
        lambda part: [label for _, label in part._samples],
        lambda part: [file for file, _ in part._samples],
    ),
    "svhn": Layout("SVHN", "train_32x32.mat", TWO_SPLITS, lambda part: part.labels),
}


def open_torchvision(name: str, data_root: Path) -> Source | None:
    """A set as torchvision stores it, below the data root or below a folder of its own name there.

    Args:
        name: a key of LAYOUTS.
        data_root: folder of the sets.

    Returns:
        The set, or None when it is not there.

    Raises:
        RuntimeError: it is there but incomplete or damaged.
    """
    layout = LAYOUTS[name]
    root = next((root for root in (data_root, data_root / name) if (root / layout.marker).exists()), None)
    if root is None:
        return None
    import torchvision.datasets

    try:
        make = getattr(torchvision.datasets, layout.class_name)
        parts = {part: make(root=str(root), download=False, **given) for part, given in layout.parts.items()}
        labels = [np.asarray(layout.labels(opened), np.int64) for opened in parts.values()]
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition(" You can use download=True")[0]  # not an option here
        again = f"run `python -m download.dataset --name {name}`"
        raise RuntimeError(f"{name} in {root} is incomplete or damaged ({reason}): {again}") from error
    split = np.repeat(np.array([*parts], np.uint8), [len(part) for part in labels])
    every_label = np.concatenate(labels)
    class_names = _class_names(next(iter(parts.values())), every_label)
    num_train = int((split != TEST).sum())
    read, locate = _reader(name, layout, [*parts.values()])
    return Source(
        name=name,
        id=name,
        origin=root,
        read=read,
        locate=locate,
        labels=every_label,
        split=split,
        class_names=class_names,
        description=f"{name}: {len(class_names)} classes, {num_train} training images",
        flip=True,
    )


def _class_names(part: Any, labels: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[str, ...]:
    names = getattr(part, "classes", None)  # SVHN has none: its classes are the digits
    return tuple(str(item) for item in (names or range(int(labels.max()) + 1)))


def _reader(
    name: str, layout: Layout, parts: Sequence[Any]
) -> tuple[Callable[[int], Image.Image], Callable[[int], str]]:
    """Functions that open an image and say which it is."""
    if layout.files is not None:
        files = [file for part in parts for file in layout.files(part)]
        return (lambda row: Image.open(files[row])), (lambda row: str(files[row]))
    ends = np.cumsum([len(part) for part in parts])

    def read(row: int) -> Image.Image:
        index = int(np.searchsorted(ends, row, side="right"))
        image = parts[index][row - int(ends[index]) + len(parts[index])][0]
        assert isinstance(image, Image.Image)
        return image

    return read, lambda row: f"{name}, image {row}"
