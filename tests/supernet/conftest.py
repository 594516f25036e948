"""A tiny supernet and a task that it learns in a few steps."""

from collections.abc import Callable

import pytest
import torch

from common.data.tasks import Task
from common.spaces import MobileNetV3Plan, MobileNetV3Supernet


@pytest.fixture
def task() -> Task:
    """Noise whose brightness tells the class."""
    draws = torch.Generator().manual_seed(5)
    labels = torch.arange(72) % 3
    noise = torch.randint(0, 80, (72, 3, 8, 8), generator=draws)
    return Task(
        id="noise",
        description="noise of three brightnesses",
        images=(noise + (labels * 170 // 3)[:, None, None, None]).to(torch.uint8),
        labels=labels,
        class_names=("dark", "grey", "bright"),
        train=torch.arange(48),
        evaluation=torch.arange(48, 72),
        flip=True,
    )


@pytest.fixture
def make_supernet() -> Callable[..., MobileNetV3Supernet]:
    def make(num_classes: int = 3, seed: int = 0, width_mult: float = 0.1) -> MobileNetV3Supernet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return MobileNetV3Supernet(MobileNetV3Plan(width_mult=width_mult, first_stride=1), num_classes)

    return make
