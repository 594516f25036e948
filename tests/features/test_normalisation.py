from pathlib import Path

import numpy as np
import pytest
import torch

from common.data.open import open_source
from common.data.source import TRAIN, decode
from common.features.normalisation import PUBLISHED, channel_statistics, published_statistics


def test_statistics_are_those_of_all_pixels_of_a_channel() -> None:
    images = torch.randint(0, 256, (7, 3, 5, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = channel_statistics(images)
    pixels = images.numpy().astype(np.float64) / 255
    assert np.allclose(mean.numpy(), pixels.mean(axis=(0, 2, 3)), atol=1e-6)
    assert np.allclose(std.numpy(), pixels.std(axis=(0, 2, 3)), atol=1e-6)


def test_a_channel_that_never_changes_can_be_divided_by() -> None:
    mean, std = channel_statistics(torch.full((2, 3, 4, 4), 51, dtype=torch.uint8))
    assert torch.allclose(mean, torch.full((3,), 0.2))
    assert torch.allclose(std, torch.full((3,), 1 / 255))


def test_no_image_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        channel_statistics(torch.zeros(0, 3, 4, 4, dtype=torch.uint8))


def test_published_constants_are_known_for_known_sets_only() -> None:
    found = published_statistics("cifar10")
    assert found is not None
    assert torch.allclose(255 * found[0], torch.tensor([125.3, 123.0, 113.9]), atol=1e-3)
    assert torch.allclose(255 * found[1], torch.tensor([63.0, 62.1, 66.7]), atol=1e-3)
    assert published_statistics("flags") is None
    assert {*PUBLISHED} == {"mnist", "svhn", "cifar10", "cifar100", "tiny_imagenet"}


@pytest.mark.data
@pytest.mark.parametrize(("name", "pixels"), [("cifar10", 32), ("mnist", 28), ("tiny_imagenet", 32)])
def test_published_constants_are_those_of_the_packed_images(name: str, pixels: int, data_root: Path) -> None:
    source = open_source(name, data_root=data_root)
    rows = np.flatnonzero(source.split == TRAIN)[:1000]
    published, computed = published_statistics(name), channel_statistics(decode(source, rows, pixels).images)
    assert published is not None
    for ours, theirs in zip(computed, published, strict=True):
        assert torch.allclose(ours, theirs, atol=0.02)
