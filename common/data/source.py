"""A set of labelled images that are not decoded yet, and how they are decoded."""

import logging
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from common.data.dataset import ImageDataset
from common.data.pixels import to_square

logger = logging.getLogger(__name__)

Indices = NDArray[np.int64]

TRAIN, VALID, TEST = 0, 1, 2
"""Values of `Source.split`."""

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,  # AVIF
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for images that are truncated, damaged, foreign or unreasonably large."""

CHUNK = 64
"""Images a decoding thread takes at once: small ones decode faster than a thread is handed work."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Labels and parts of a set, with a way to read each image."""

    name: str
    """Known name, or the name of the user's folder or file."""
    id: str
    """Stable id: the name of a known set, `folder:birds` for a folder, `file:birds` for a packed file."""
    origin: Path | None
    """Folder or file the set was read from; None for a built-in set."""
    read: Callable[[int], Image.Image]
    """Opens image i; the caller closes it."""
    locate: Callable[[int], str]
    """Says which image i is, for messages."""
    labels: Indices
    """(N,) in [0, number of classes)."""
    split: NDArray[np.uint8]
    """(N,) of TRAIN, VALID, TEST."""
    class_names: tuple[str, ...]
    description: str
    flip: bool


class Decoded(NamedTuple):
    """Images of some rows of a source."""

    images: Tensor
    """(n, 3, R, R) uint8."""
    rows: Indices
    """(n,) rows of the source, in the order asked for, without the damaged ones."""
    skipped: tuple[str, ...]
    """The damaged ones, each with the reason."""


def decode(source: Source, rows: Indices, resolution: int) -> Decoded:
    """Read, convert and resize some images, with as many threads as PyTorch uses.

    Damaged images are left out, each named in the log.

    Raises:
        ValueError: the resolution is not positive.
    """
    if resolution < 1:
        raise ValueError(f"resolution must be at least 1 pixel, got {resolution}")
    pixels = np.empty((len(rows), 3, resolution, resolution), np.uint8)

    def fill(part: range) -> list[tuple[int, str]]:
        damaged = []
        for position in part:
            row = int(rows[position])
            try:
                with source.read(row) as image:
                    pixels[position] = np.asarray(to_square(image, resolution)).transpose(2, 0, 1)
            except DAMAGE as error:
                damaged.append((position, f"{source.locate(row)}: {str(error) or type(error).__name__}"))
        return damaged

    parts = [range(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        damaged = [item for found in pool.map(fill, parts) for item in found]
    if damaged:
        for _, reason in damaged:
            logger.warning("damaged image left out: %s", reason)
        logger.warning("%s: %d of %d images are damaged and left out", source.name, len(damaged), len(rows))
        whole = np.ones(len(rows), bool)
        whole[[position for position, _ in damaged]] = False
        pixels, rows = pixels[whole], rows[whole]
    return Decoded(torch.from_numpy(pixels), rows, tuple(reason for _, reason in damaged))


def decode_all(source: Source, resolution: int) -> ImageDataset:
    """The whole source as a dataset.

    Raises:
        ValueError: a class has no readable image.
    """
    images, rows, skipped = decode(source, np.arange(len(source.labels)), resolution)
    labels, split = source.labels[rows], source.split[rows]
    require_images(source.name, labels, source.class_names)
    train, valid, test = (torch.from_numpy(np.flatnonzero(split == part)) for part in (TRAIN, VALID, TEST))
    return ImageDataset(
        name=source.name,
        images=images,
        labels=torch.from_numpy(labels),
        class_names=source.class_names,
        train=train,
        valid=valid,
        test=test,
        description=source.description,
        flip=source.flip,
        skipped=skipped,
    )


def require_images(name: str, labels: Indices, class_names: Sequence[str]) -> None:
    """Check that there are two classes and that each has an image.

    Raises:
        ValueError: otherwise, naming the empty classes.
    """
    if len(class_names) < 2:
        raise ValueError(f"{name} has one class only ({', '.join(class_names)}): a classifier needs at least two")
    counts = np.bincount(labels, minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise ValueError(
            f"{name}: no image that can be read in class {', '.join(empty[:5])}{more}: add some or drop it"
        )


def stratified_split(labels: Indices, seed: int, test_fraction: float = 0.2) -> NDArray[np.uint8]:
    """Draw a test part from every class.

    A class of one image keeps it for training; a larger one gives at least one image.

    Args:
        labels: (N,).
        seed: of the drawing; each class is drawn independently of the others.
        test_fraction: share of a class that becomes TEST, rounded.

    Returns:
        (N,) of TRAIN and TEST.
    """
    split = np.full(len(labels), TRAIN, np.uint8)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            drawn = np.random.default_rng([seed, int(label)]).permutation(members)
            split[drawn[: max(1, round(test_fraction * len(members)))]] = TEST
    return split
