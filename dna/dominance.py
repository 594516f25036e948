"""Which of many candidates can still be among the best, given their rating and their costs."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = NDArray[np.intp]

_BLOCK = 256


def survivors(losses: Floats, costs: Ints, count: int) -> Rows:
    """Rows that fewer than `count` others dominate.

    One row dominates another that is no better in rating and in every cost and, where all are equal, comes later. What
    continues the other is then worse than what continues the first, so `count` of those leave it no place in an
    answer.

    Args:
        losses: (n,), smaller is better.
        costs: (n, D).
        count: 1 or more.

    Returns:
        Positions, rising.
    """
    order = np.lexsort((losses, *costs.T[::-1]))  # stable; a row is dominated by earlier ones only
    if costs.shape[1] == 1:
        order = _layers(losses, order, count)
    if costs.shape[1] > 1 or count > 1:
        order = _counted(losses, costs, order, count)
    return np.sort(order)


def _layers(losses: Floats, order: Rows, count: int) -> Rows:
    """One cost: the rows that no earlier one dominates, then those of what remains, `count` times; in the same order.

    A row that is left over is dominated by one of each layer. With several layers a kept one may be too.
    """
    places = np.arange(len(order))
    kept = places[:0]
    for _ in range(count):
        if not len(places):
            break
        values = losses[order[places]]
        better = np.concatenate([[True], values[1:] < np.minimum.accumulate(values)[:-1]])
        kept = np.concatenate([kept, places[better]])
        places = places[~better]
    return order[np.sort(kept)]


def _counted(losses: Floats, costs: Ints, order: Rows, count: int) -> Rows:
    """Every row against the kept ones before it, a block at a time; in the same order.

    Those that were dropped need not be counted: what dominates them, dominates what they dominate.
    """
    values = np.concatenate([costs[order], losses[order, None]], axis=1, dtype=np.float64)
    kept = np.zeros(0, np.intp)
    for first in range(0, len(order), _BLOCK):
        block = values[first : first + _BLOCK]
        dominators = (values[kept, None] <= block).all(-1).sum(0)
        dominators += np.triu((block[:, None] <= block).all(-1), 1).sum(0)
        kept = np.concatenate([kept, first + np.flatnonzero(dominators < count)])
    return order[kept]
