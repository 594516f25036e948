"""What a predictor learns of accuracies.

Source: Lee et al., ICLR 2021, released code (standardised accuracies); the ranks are ours. Among the better half of the
cells a few tenths of a percent decide, and a squared error on accuracies does not see them.
"""

from typing import Literal

import torch
from torch import Tensor

from metad2a.database import MetaDatabase
from metad2a.predictor import Normaliser

Target = Literal["accuracy", "source_rank", "task_rank"]


def targets_of(database: MetaDatabase, rows: Tensor, target: Target) -> tuple[Tensor, Normaliser | None]:
    """Targets of some rows, and how scores become accuracies again where they do.

    Args:
        database: rows with their sources, tasks and accuracies.
        rows: (n,) indices.
        target: see `PredictorLearning.target`.

    Returns:
        (n,) float32, and the normaliser, or None for ranks.

    Raises:
        ValueError: all accuracies are the same.
    """
    accuracy = database.accuracy[rows]
    if target == "accuracy":
        normaliser = Normaliser.of(accuracy)
        return normaliser.scores(accuracy), normaliser
    group = database.task_index[rows] if target == "task_rank" else database.source_index()[rows]
    return normal_ranks(accuracy, group), None


def normal_ranks(values: Tensor, group: Tensor) -> Tensor:
    """Normal quantiles of the ranks inside each group: with n values, of (rank - 1/2) / n.

    Args:
        values: (n,).
        group: (n,) int64, which group each is of.

    Returns:
        (n,) float32 of mean 0 in each group; equal values get the mean of their ranks.
    """
    found = torch.empty(len(values))
    for name in torch.unique(group):
        members = group == name
        _, place, counts = torch.unique(values[members], return_inverse=True, return_counts=True)
        last = counts.cumsum(0).double()
        middle = (last - counts.double() / 2) / len(place)  # mean rank, less 1/2, as a share
        found[members] = (2**0.5 * torch.erfinv(2 * middle - 1))[place].float()
    return found
