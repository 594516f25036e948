"""Handwritten digits, rendered in four ways: sets that a zoo can be built of without any download."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

Pixels = np.ndarray
TRAIN, TEST, UNSEEN_TRAIN, UNSEEN_TEST = range(70), range(70, 100), range(100, 130), range(130, 170)
"""Images of a digit, by their number; those of the unseen set are in no other."""


def _red(image: Pixels) -> Pixels:
    return np.stack([image, image // 6, image // 6], 2)


RENDERINGS: dict[str, Callable[[Pixels], Pixels]] = {
    "grey": lambda image: image,
    "inverted": lambda image: 255 - image,
    "red": _red,
    "mirrored": lambda image: np.stack([image // 6, image[:, ::-1], image // 6], 2),
}


def write_renderings(folder: Path) -> None:
    """Folders `grey-low`, `grey-high`, ... and `unseen`, each with train and test."""
    for name, render in RENDERINGS.items():
        for half, digits in (("low", range(5)), ("high", range(5, 10))):
            _write(folder / f"{name}-{half}", digits, render, TRAIN, TEST)
    _write(folder / "unseen", range(3, 8), _red, UNSEEN_TRAIN, UNSEEN_TEST)


def _write(folder: Path, digits: range, render: Callable[[Pixels], Pixels], train: range, test: range) -> None:
    raw = load_digits()
    for digit in digits:
        images = np.rint(raw.images[raw.target == digit] * (255 / 16)).astype(np.uint8)
        for part, numbers in (("train", train), ("test", test)):
            place = folder / part / f"digit {digit}"
            place.mkdir(parents=True, exist_ok=True)
            for number in numbers:
                Image.fromarray(render(images[number])).save(place / f"{number:03d}.png")
