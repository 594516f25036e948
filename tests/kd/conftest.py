"""Small tasks and networks for the trainer's tests."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from common.data.tasks import Task


def small_task(*, num_train: int = 52, num_evaluation: int = 26, num_classes: int = 3, resolution: int = 8) -> Task:
    """Noise with a brightness that tells the class: learnable in a few steps."""
    draws = torch.Generator().manual_seed(5)
    total = num_train + num_evaluation
    labels = torch.arange(total) % num_classes
    noise = torch.randint(0, 80, (total, 3, resolution, resolution), generator=draws)
    images = (noise + (labels * 170 // num_classes)[:, None, None, None]).to(torch.uint8)
    return Task(
        id="noise",
        description="noise of three brightnesses",
        images=images,
        labels=labels,
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        train=torch.arange(num_train),
        evaluation=torch.arange(num_train, total),
        flip=True,
    )


class SmallNetwork(nn.Module):
    """Five maps, batch normalisation, dropout: everything that a trajectory may depend on."""

    def __init__(self, width: int, num_classes: int = 3, seed: int = 0, dropout: float = 0.2) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            widths = [3, width, width, width + 1, width, width]
            self.stages = nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, 3, 1 + (index in (2, 3)), 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                for index, (a, b) in enumerate(pairwise(widths))
            )
            self.drop = nn.Dropout(dropout)
            self.fc = nn.Linear(width, num_classes)

    def features_and_logits(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps, self.fc(self.drop(images.mean((-2, -1))))

    def forward(self, images: Tensor) -> Tensor:
        return self.features_and_logits(images)[1]


@pytest.fixture
def task() -> Task:
    return small_task()


@pytest.fixture
def make_network() -> Callable[..., SmallNetwork]:
    return SmallNetwork


@pytest.fixture
def make_task() -> Callable[..., Task]:
    return small_task
