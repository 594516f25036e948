"""A set of labelled images in memory."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset:
    """Decoded images of one resolution, their labels and the official (or drawn) parts."""

    name: str
    """Known name (`cub`) or the name of the user's folder or file."""
    images: Tensor
    """(N, 3, R, R) uint8, RGB."""
    labels: Tensor
    """(N,) int64 in [0, number of classes)."""
    class_names: tuple[str, ...]
    train: Tensor
    """Indices of the training images, int64."""
    valid: Tensor
    """Indices of the validation images, int64; may be empty."""
    test: Tensor
    """Indices of the test images, int64; may be empty."""
    description: str
    """One line that says which part of the set this is (`cub, reduced: 100 of 200 classes`)."""
    flip: bool
    """Whether a mirrored image keeps its label."""
    skipped: tuple[str, ...] = ()
    """Damaged images that were left out, each with the reason."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def resolution(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[-1])

    @cached_property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of images, labels, class names and parts."""
        total = hashlib.sha256(repr((tuple(self.images.shape), self.class_names)).encode())
        for part in (self.images, self.labels, self.train, self.valid, self.test):
            total.update(str(len(part)).encode())
            total.update(part.contiguous().flatten().numpy().data)
        return total.hexdigest()[:12]
