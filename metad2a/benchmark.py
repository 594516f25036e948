"""What the benchmark's own table knows of cells that a search has ranked.

Source: Lee et al., ICLR 2021, released code looks up the 30 best and reports the largest test accuracy among them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from common.meta.ranking import spearman
from common.spaces.nasbench201 import Cell
from common.spaces.nasbench201_table import AccuracyTable
from metad2a.labels import TABLE_EPOCHS, TABLE_SPLIT
from metad2a.scoring import best_first

NUM_BEST = 30
"""How many of the best ranked the published search looks up."""


@dataclass(frozen=True, kw_only=True)
class RankedAccuracies:
    """Accuracies, in [0, 1], of cells in the order of a ranking.

    Attributes:
        top1: of the first.
        best_of_top: the largest among the first 30. It is picked by test accuracy, as published: what an oracle would
            take, and no result of the ranking.
        mean_of_top: mean over the first 30.
        mean: mean over all.
        spearman: rank correlation of ranking and accuracies; -1 where undefined.
    """

    top1: float
    best_of_top: float
    mean_of_top: float
    mean: float
    spearman: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a result file."""
        return asdict(self)


def accuracies_of(table: AccuracyTable, cells: Sequence[Cell], column: str, *, epochs: int = TABLE_EPOCHS) -> Tensor:
    """(len(cells),) test accuracies in [0, 1] on one of the table's datasets."""
    return table.lookup(cells, column, TABLE_SPLIT, epochs)


def ranks_among(everything: Tensor, accuracies: Tensor) -> Tensor:
    """Places of accuracies among others, 1 for the best; equal ones share the better place.

    Args:
        everything: (N,) of all cells.
        accuracies: (M,) of some of them.

    Returns:
        (M,) int64.
    """
    ordered = everything.sort().values
    return 1 + len(ordered) - torch.searchsorted(ordered, accuracies, right=True)


def judge(scores: Tensor, accuracies: Tensor) -> RankedAccuracies:
    """How good the cells are that a ranking puts first.

    Args:
        scores: (M,) by which cells are ranked, the largest first.
        accuracies: (M,) theirs.
    """
    ordered = accuracies[best_first(scores)]
    top = ordered[:NUM_BEST]
    return RankedAccuracies(
        top1=float(ordered[0]),
        best_of_top=float(top.max()),
        mean_of_top=float(top.mean()),
        mean=float(ordered.mean()),
        spearman=spearman(scores, accuracies) if len(scores) > 1 else -1.0,
    )


def expected_of_random_order(accuracies: Tensor) -> RankedAccuracies:
    """The same of cells in random order, as expectations: no scores, no luck.

    Args:
        accuracies: (M,) of the cells.
    """
    ordered, size = accuracies.double().sort().values, len(accuracies)
    num = min(NUM_BEST, size)
    # the largest of `num` drawn without replacement is the k-th smallest with probability C(k - 1, num - 1) / C(M, num)
    place = torch.arange(1, size + 1, dtype=torch.float64)
    log_choose = torch.lgamma(place) - torch.lgamma((place - num + 1).clamp(min=1))
    weight = torch.where(place >= num, log_choose, -torch.inf).softmax(0)
    mean = float(ordered.mean())
    return RankedAccuracies(
        top1=mean, best_of_top=float((weight * ordered).sum()), mean_of_top=mean, mean=mean, spearman=0.0
    )


def describe(judged: RankedAccuracies) -> str:
    """Accuracies of a ranking in words."""
    return (
        f"top-1 {100 * judged.top1:.2f} %, best of {NUM_BEST} {100 * judged.best_of_top:.2f} % (picked by these "
        f"accuracies), their mean {100 * judged.mean_of_top:.2f} %, mean of all {100 * judged.mean:.2f} %, "
        f"Spearman {judged.spearman:.3f}"
    )
