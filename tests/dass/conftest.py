"""Small tables and predictors for the tests of DaSS."""

import math
from collections.abc import Callable

import pytest
import torch

from dass.database import TaskTable
from dass.predictor import PredictorConfig


@pytest.fixture
def small() -> PredictorConfig:
    """Sizes that fit the tables of `make_table`."""
    return PredictorConfig(map_channels=16, hidden_channels=8, out_channels=12, arch_dim=21, hidden_dim=10)


@pytest.fixture
def make_table() -> Callable[..., TaskTable]:
    """Makes a table whose accuracies depend on codes and maps, so that there is something to learn."""
    return _make_table


def _make_table(task: str = "cub", *, num: int = 12, seed: int = 0, side: int = 4, **changes: object) -> TaskTable:
    random = torch.Generator().manual_seed(seed)
    actmap = torch.randn(num, 16, side, side, generator=random).relu()
    codes = (torch.rand(num, 21, generator=random) < 0.3).float()
    signal = codes[:, :7].sum(1) - codes[:, 7:14].sum(1) + actmap[:, :8].mean((1, 2, 3)) * 4
    accuracy = torch.sigmoid(signal / 3)
    seeds = (accuracy[:, None] + 0.01 * torch.randn(num, 2, generator=random)).clamp(0, 1)
    values: dict[str, object] = {
        "task": task,
        "description": f"{task}, made up",
        "space_name": "toy",
        "resolution": 16,
        "num_classes": 5,
        "actmap": actmap,
        "arch_enc": codes,
        "architectures": tuple(f"net{index}" for index in range(num)),
        "best_accuracy": seeds.mean(1),
        "final_accuracy": seeds.mean(1) * 0.9,
        "initial_accuracy": torch.full((num,), math.nan),
        "final_loss": torch.rand(num, generator=random),
        "num_params": torch.arange(num) + 1000,
        "macs": torch.arange(num) + 2**40,
        "seed_best_accuracy": seeds,
        "teacher_actmap": torch.randn(1, 16, side, side, generator=random).relu(),
        "teacher_enc": torch.ones(1, 21),
        "teacher_best_accuracy": 0.75,
        "teacher_final_accuracy": 0.7,
        "teacher_initial_accuracy": math.nan,
        "probe": torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(9)),
        "meta": {"unit": "fraction", "pr_type": "copy_paste_first"},
    }
    return TaskTable(**(values | changes))  # type: ignore[arg-type]
