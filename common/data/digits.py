"""Handwritten digits that come with scikit-learn: a real set that needs no download."""

import numpy as np
from PIL import Image

from common.data.source import Source, stratified_split


def open_digits(*, seed: int) -> Source:
    """1797 images of 8x8 pixels, 10 classes; a fifth of every class is drawn for testing.

    Args:
        seed: of the drawing.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    pixels = np.rint(raw.images * (255 / 16)).astype(np.uint8)  # 17 gray levels, 0..16
    labels = raw.target.astype(np.int64)
    return Source(
        name="digits",
        id="digits",
        origin=None,
        read=lambda row: Image.fromarray(pixels[row]),
        locate=lambda row: f"digits, image {row}",
        labels=labels,
        split=stratified_split(labels, seed),
        class_names=tuple(str(item) for item in raw.target_names),
        description="digits: 10 classes, 1797 images of 8x8 pixels",
        flip=False,
    )
