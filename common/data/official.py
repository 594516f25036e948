"""The arrays that the DaSS authors offer: train and test images and labels as .npy files."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.data.source import TEST, TRAIN, Indices, Source

TINY_IMAGENET = "tiny_imagenet"


def open_official(name: str, data_root: Path) -> Source | None:
    """NAME/{train,test}_{images,labels}.npy below the data root.

    The images stay on disk; only the rows that are decoded are read. Tiny ImageNet has valid instead of test files, and
    its labels may lie in labels/.

    Args:
        name: name of the folder.
        data_root: folder of the sets.

    Returns:
        The set, or None when none of its files are there.

    Raises:
        FileNotFoundError: some of the files are missing.
        ValueError: a file is damaged, or images and labels do not fit each other.

    Source: DaSS released code, get_dataloader.py.
    """
    folder = data_root / name
    held_out = "valid" if name == TINY_IMAGENET else "test"
    sides = ("train", held_out)
    image_files = [folder / f"{side}_images.npy" for side in sides]
    if not any(file.is_file() for file in image_files):
        return None
    images = [_array(file) for file in image_files]
    labels = [_labels(folder, side) for side in sides]
    for file, pixels, numbers in zip(image_files, images, labels, strict=True):
        _check(file, pixels, numbers)
    num_train = len(labels[0])

    def read(row: int) -> Image.Image:
        side = int(row >= num_train)
        return Image.fromarray(np.ascontiguousarray(images[side][row - side * num_train]))

    def locate(row: int) -> str:
        side = int(row >= num_train)
        return f"{image_files[side]}, image {row - side * num_train}"

    every_label = np.concatenate(labels)
    num_classes = int(every_label.max()) + 1
    return Source(
        name=name,
        id=name,
        origin=folder,
        read=read,
        locate=locate,
        labels=every_label,
        split=np.repeat(np.array([TRAIN, TEST], np.uint8), [len(part) for part in labels]),
        class_names=tuple(str(label) for label in range(num_classes)),
        description=f"{name}: {num_classes} classes, {num_train} training images",
        flip=True,
    )


def stored_split(folder: Path, index: int) -> tuple[Indices, Indices, Indices] | None:
    """One of the ten stored Tiny ImageNet splits.

    Args:
        folder: the one that holds 10_split/.
        index: 0..9.

    Returns:
        Classes in the order of their new numbers, training rows, held-out rows, or None when there is no such file.

    Raises:
        ValueError: the file is damaged or has other keys.
    """
    path = folder / "10_split" / f"split_{index}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            classes, train, held_out = (
                archive[key].astype(np.int64) for key in ("label_list", "idx_train", "idx_valid")
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as a stored split (label_list, idx_train, idx_valid): {error}"
        ) from error
    return classes, train, held_out


def _array(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside the other files of the set")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array: {error}") from error


def _labels(folder: Path, side: str) -> Indices:
    places = [folder / f"{side}_labels.npy", folder / "labels" / f"{side}_labels.npy"]
    labels = _array(next((place for place in places if place.is_file()), places[0]))
    return np.asarray(labels).astype(np.int64).reshape(-1)


def _check(file: Path, pixels: NDArray[Any], labels: Indices) -> None:
    gray, colour = pixels.ndim == 3, pixels.ndim == 4 and pixels.shape[-1] == 3
    if pixels.dtype != np.uint8 or not (gray or colour):
        raise ValueError(f"{file}: expected uint8 of N x H x W or N x H x W x 3, got {pixels.dtype} of {pixels.shape}")
    if len(pixels) != len(labels) or len(labels) == 0 or labels.min() < 0:
        raise ValueError(f"{file}: {len(pixels)} images and {len(labels)} labels do not fit each other")
