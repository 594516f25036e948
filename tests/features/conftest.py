"""Small sets of images, files and networks for the tests of features."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from common.features.extractors import Extractor

COLOURS = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220], [200, 200, 40]])


def coloured(label: int, seed: int, size: int) -> Image.Image:
    """Noise around the colour of a class."""
    noise = np.random.default_rng(seed).integers(-40, 36, (size, size, 3))
    return Image.fromarray((COLOURS[label] + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of class folders: folder({"red": 4}, {"red": 2}) has four training and two test images."""

    def write(train: dict[str, int], test: dict[str, int], name: str = "flags", size: int = 32) -> Path:
        root = tmp_path / name
        for part, counts in (("train", train), ("test", test)):
            for label, (class_name, count) in enumerate(counts.items()):
                place = root / part / class_name
                place.mkdir(parents=True, exist_ok=True)
                for index in range(count):
                    coloured(label, 1000 * len(part) + 100 * label + index, size).save(place / f"{index:03d}.png")
        return root

    return write


class Means(nn.Module):
    """A network whose features can be told by hand: channel means of normalised images, repeated to 512 numbers."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.mean(dim=(2, 3)).repeat(1, 171)[:, :512]


@pytest.fixture
def means() -> Callable[..., Extractor]:
    """Makes an extractor of channel means; another scale is another id."""
    return lambda scale=1.0: Extractor("means", Means(scale))
