"""The constrained search: one path for every stage, the smallest sum of ratings within a budget, exactly.

Ratings and costs add up over the stages, so this is a knapsack with one choice in each group. Stages are merged one by
one; of the sums that end at the same width, one is dropped when enough others are no worse in rating and in every cost,
or when not even the cheapest rest fits the budget. What is left holds the optimum. The released loops, which stop early
under bounds of other prefixes, do not always find it.

Only NumPy is used; costs are integers, so no sum is rounded, and ratings are added first stage first in float64.

Source: Li et al., CVPR 2020, searching for the best student under constraint; the algorithm is ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dna.dominance import Floats, Ints, Rows, survivors

Budget = int | Sequence[int] | None

_PAIRS_AT_ONCE = 1 << 21
_UNBOUNDED = np.iinfo(np.int64).max // 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Rated paths of one cell of a stage, as they cost after a stage of one width.

    A cell that may follow several widths is given once for each, with the costs that it has there.
    """

    losses: Floats
    """(n,) ratings in path order; smaller is better."""
    costs: Ints
    """(n,) or (n, D), whole numbers."""
    cell: int = 0
    """Position of the cell among those of the stage."""
    in_width: int = 0
    """Output channels that the stage before must have."""
    out_width: int = 0
    """Output channels of this one."""


@dataclass(frozen=True)
class Found:
    """A network that the search found.

    Attributes:
        choices: (cell, path index) of each stage.
        loss: sum of the ratings.
        costs: of the whole network, fixed parts included, one for each budget.
    """

    choices: tuple[tuple[int, int], ...]
    loss: float
    costs: tuple[int, ...]


def traverse(
    stages: Sequence[Sequence[Group]], budget: Budget, *, fixed: int | Sequence[int] = 0, count: int = 1
) -> list[Found]:
    """The best networks within a budget.

    Args:
        stages: the groups of each stage. Those of the first have one `in_width`, that of the stem.
        budget: largest allowed cost, or one for each of D; None for no bound.
        fixed: cost of the parts that are not searched, likewise.
        count: how many networks are wanted.

    Returns:
        At most `count`, best first; equal sums are ordered by costs, then by choices.

    Raises:
        ValueError: no network fits the budget or the widths, a rating is not finite, or shapes do not go together.
    """
    if count < 1:
        raise ValueError(f"count is {count}: ask for at least one network")
    levels, offsets = _merge(stages, budget, fixed, count)
    last = levels[-1]
    order = np.lexsort((*last.costs.T[::-1], last.losses))  # the last key comes first
    return [_trace(levels, node, offsets) for node in order[:count].tolist()]


def trade_off(
    stages: Sequence[Sequence[Group]], *, budget: Budget = None, fixed: int | Sequence[int] = 0
) -> list[Found]:
    """The networks that no other beats or equals in rating and all costs, by rising cost.

    Arguments and errors as in `traverse`.
    """
    levels, offsets = _merge(stages, budget, fixed, 1)
    kept = survivors(levels[-1].losses, levels[-1].costs, 1)
    found = [_trace(levels, node, offsets) for node in kept.tolist()]
    return sorted(found, key=lambda network: (network.costs, network.loss))


class _Items(NamedTuple):
    """Paths of a group that may be in an answer, by rising index."""

    losses: Floats
    costs: Ints
    """(n, D)."""
    paths: Ints
    cell: int
    in_width: int
    out_width: int


class _Nodes(NamedTuple):
    """Beginnings of networks, up to a stage, in the order of their choices."""

    losses: Floats
    costs: Ints
    """(n, D)."""
    parents: Ints
    """Positions among the nodes of the stage before."""
    cells: Ints
    paths: Ints
    widths: Ints

    def take(self, rows: Rows) -> "_Nodes":
        return _Nodes(
            self.losses[rows],
            self.costs[rows],
            self.parents[rows],
            self.cells[rows],
            self.paths[rows],
            self.widths[rows],
        )


def _merge(
    stages: Sequence[Sequence[Group]], budget: Budget, fixed: int | Sequence[int], count: int
) -> tuple[list[_Nodes], Ints]:
    """Nodes of the start and of every stage, those of the last within the budget, and the fixed costs (D,)."""
    items = [[_items(group, number, count) for group in stage] for number, stage in enumerate(stages)]
    dims = {group.costs.shape[1] for stage in items for group in stage}
    if len(dims) != 1 or not all(items):
        raise ValueError("stages: give at least one group for each, all with the same number of costs")
    (dim,) = dims
    starts = {group.in_width for group in items[0]}
    if len(starts) != 1:
        raise ValueError(f"the first stage follows widths {sorted(starts)}: there is one stem, so give one width")
    (start,) = starts
    offsets = _per_cost(fixed, dim, "fixed")
    limit = np.full(dim, _UNBOUNDED) if budget is None else _per_cost(budget, dim, "budget") - offsets
    rest = _cheapest_rest(items)
    if start not in rest[0]:
        raise ValueError("no network: no widths of the stages join")
    least = rest[0][start] + offsets
    zero = np.zeros(1, np.int64)
    levels = [_Nodes(np.zeros(1), np.zeros((1, dim), np.int64), zero, zero, zero, zero + start)]
    for stage, after in zip(items, rest[1:], strict=True):
        levels.append(_extend(levels[-1], stage, after, limit, count))
    if not len(levels[-1].losses):
        cheapest = f"the cheapest costs {least[0]}" if dim == 1 else f"the least of each cost is {least.tolist()}"
        raise ValueError(f"no network fits the budget {budget}: {cheapest}")
    return levels, offsets


def _items(group: Group, stage: int, count: int) -> _Items:
    """Check a group, and leave out the paths that `count` others of it dominate."""
    losses = np.asarray(group.losses, np.float64)
    costs = np.asarray(group.costs)
    if losses.ndim != 1 or not len(losses) or costs.shape[:1] != losses.shape or costs.ndim > 2:
        raise ValueError(
            f"stage {stage}, cell {group.cell}: losses of shape {losses.shape} and costs of shape {costs.shape}; they "
            "must be (n,) and (n,) or (n, D), n at least 1"
        )
    if costs.dtype.kind not in "iu":
        raise ValueError(f"stage {stage}, cell {group.cell}: costs are {costs.dtype}; give whole numbers")
    wrong = np.flatnonzero(~np.isfinite(losses))
    if len(wrong):
        raise ValueError(
            f"stage {stage}, cell {group.cell}: the rating of path {wrong[0]} is {losses[wrong[0]]} (and "
            f"{len(wrong) - 1} others are not finite): rate the stage anew"
        )
    costs = costs.astype(np.int64).reshape(len(losses), -1)
    kept = survivors(losses, costs, count)
    return _Items(losses[kept], costs[kept], kept, group.cell, group.in_width, group.out_width)


def _per_cost(value: int | Sequence[int], dim: int, name: str) -> Ints:
    values = np.atleast_1d(np.asarray(value))
    if values.dtype.kind not in "iu" or values.ndim != 1 or len(values) not in (1, dim):
        raise ValueError(f"{name} is {value}: give {dim} whole numbers")
    return np.broadcast_to(values.astype(np.int64), dim)


def _cheapest_rest(stages: Sequence[Sequence[_Items]]) -> list[dict[int, Ints]]:
    """Least of each cost (D,) from each stage on, by the width that it follows; the last entry stands for the end.

    Widths from which the end cannot be reached are left out.
    """
    dim = stages[0][0].costs.shape[1]
    rest: list[dict[int, Ints]] = [{group.out_width: np.zeros(dim, np.int64) for group in stages[-1]}]
    for stage in reversed(stages):
        least: dict[int, Ints] = {}
        for group in stage:
            if group.out_width in rest[0]:
                value = group.costs.min(0) + rest[0][group.out_width]
                least[group.in_width] = np.minimum(least.get(group.in_width, value), value)
        rest.insert(0, least)
    return rest


def _extend(nodes: _Nodes, stage: Sequence[_Items], rest: dict[int, Ints], limit: Ints, count: int) -> _Nodes:
    """Beginnings one stage longer, without those that cannot be in an answer."""
    kept = []
    for width in sorted({group.out_width for group in stage} & {*rest}):
        parts = [
            part
            for group in stage
            if group.out_width == width
            for part in _pairs(nodes, group, limit - rest[width], count)
        ]
        if parts:
            kept.append(_reduce(_ordered(parts), count))
    return _ordered(kept) if kept else nodes.take(np.zeros(0, np.intp))


def _pairs(nodes: _Nodes, group: _Items, limit: Ints, count: int) -> Iterator[_Nodes]:
    """Survivors among the sums of the nodes that a group may follow and its paths, in parts that fit in memory."""
    before = np.flatnonzero(nodes.widths == group.in_width)
    at_once = max(1, _PAIRS_AT_ONCE // len(group.losses))
    for first in range(0, len(before), at_once):
        rows = before[first : first + at_once]
        within = (nodes.costs[rows, None] + group.costs <= limit).all(-1)
        left, right = np.nonzero(within)  # by rising choices
        parents = rows[left]
        part = _Nodes(
            losses=nodes.losses[parents] + group.losses[right],
            costs=nodes.costs[parents] + group.costs[right],
            parents=parents,
            cells=np.full(len(parents), group.cell),
            paths=group.paths[right],
            widths=np.full(len(parents), group.out_width),
        )
        yield _reduce(part, count)


def _reduce(nodes: _Nodes, count: int) -> _Nodes:
    return nodes.take(survivors(nodes.losses, nodes.costs, count))


def _ordered(parts: Sequence[_Nodes]) -> _Nodes:
    """All nodes, by rising choices."""
    joined = _Nodes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return joined.take(np.lexsort((joined.paths, joined.cells, joined.parents)))


def _trace(levels: Sequence[_Nodes], node: int, offsets: Ints) -> Found:
    """The network that ends in a node of the last level."""
    last = levels[-1]
    loss, costs = float(last.losses[node]), tuple((last.costs[node] + offsets).tolist())
    choices = []
    for level in reversed(levels[1:]):
        choices.append((int(level.cells[node]), int(level.paths[node])))
        node = int(level.parents[node])
    return Found(tuple(reversed(choices)), loss, costs)
