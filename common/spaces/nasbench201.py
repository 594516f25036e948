"""The NAS-Bench-201 space: cells of six operations, their text, their codes and their graphs.

Source: Dong and Yang, ICLR 2020 (the space and the text form); Lee et al., ICLR 2021, released code (the graphs).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
from torch import Tensor, nn

from common.graphs import END, START, DagBatch, is_valid
from common.spaces.base import Cost
from common.spaces.nasbench201_network import CellNetwork, check_resolution

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge may do; an operation is known by its place here."""
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of each of the six operations; node 0 is the input of a cell and node 3 its output."""
FIRST_OPERATION = 1 + max(START, END)
"""Vertex type of operation 0; operation i has the i-th after it."""
NUM_TYPES = FIRST_OPERATION + len(OPERATIONS)
NUM_VERTICES = len(EDGES) + 2
GRAPH_EDGES = ((0, 1), (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 4), (3, 6), (4, 5), (5, 6), (6, 7))
"""The edges of every cell's graph: the path through all vertices, and 1-3, 1-5, 2-6, 3-6 where one operation feeds
another. The input edges 0-2, 0-4 and the output edges 4-7, 5-7 are missing, and most of the path carries no data: so it
is in the released code of MetaD2A, whose checkpoints and database know no other edges."""

_INDICES = frozenset(range(len(OPERATIONS)))
_PLACES = tuple(len(OPERATIONS) ** power for power in reversed(range(len(EDGES))))
_TEXT = re.compile(
    r"\+".join(
        r"\|" + "".join(rf"({'|'.join(OPERATIONS)})~{source}\|" for source in range(target)) for target in (1, 2, 3)
    )
)
_EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


@dataclass(frozen=True)
class Cell:
    """One architecture: an index into `OPERATIONS` for each of `EDGES`.

    Raises:
        ValueError: not six indices from 0 to 4.
    """

    operations: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the indices."""
        given = self.operations
        if not isinstance(given, tuple) or len(given) != len(EDGES) or not _INDICES.issuperset(given):
            raise ValueError(f"cell {given}: a tuple of six numbers of operations from 0 to 4 is needed")

    @property
    def edges(self) -> tuple[tuple[int, int, str], ...]:
        """(source, target, name of the operation), six times."""
        return tuple((*edge, OPERATIONS[op]) for edge, op in zip(EDGES, self.operations, strict=True))


@dataclass(frozen=True, kw_only=True)
class NasBench201Space:
    """All 15,625 cells, in networks of three stages of equal cells.

    Raises:
        ValueError: no channels or no cells.
    """

    channels: int = 16
    """Width of the first stage; the second and third have two and four times as many."""
    cells_per_stage: int = 5

    def __post_init__(self) -> None:
        """Check the fields."""
        for field in ("channels", "cells_per_stage"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} {getattr(self, field)}: at least 1 is needed")

    @property
    def name(self) -> str:
        """Such as `nasbench201-16x5`: the same name, the same networks."""
        return f"nasbench201-{self.channels}x{self.cells_per_stage}"

    def size(self) -> int:
        """Number of distinct cells."""
        return int(len(OPERATIONS) ** len(EDGES))

    def all(self) -> list[Cell]:
        """Every cell, in lexicographic order of the operations (the benchmark's table has another order)."""
        return list(_all_cells())

    def sample(self, num: int, generator: torch.Generator) -> list[Cell]:
        """Draw uniformly with replacement; a longer sample begins with the shorter one of the same seed."""
        return _cells_of(torch.randint(len(OPERATIONS), (num, len(EDGES)), generator=generator))

    def parse(self, text: str) -> Cell:
        """Read `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`: what enters nodes 1, 2 and 3, each from the node after `~`.

        Raises:
            ValueError: the text is malformed; the message says where.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"cell {text!r} is malformed: {_complaint(text.strip())}; a cell is like {_EXAMPLE!r}")
        return Cell(tuple(map(OPERATIONS.index, found.groups())))

    def format(self, arch: Cell) -> str:
        """The text form; `parse` inverts it."""
        terms = [f"{operation}~{source}|" for source, _, operation in arch.edges]
        return f"|{terms[0]}+|{terms[1]}{terms[2]}+|{terms[3]}{terms[4]}{terms[5]}"

    def encode(self, archs: Sequence[Cell]) -> Tensor:
        """Codes for a predictor: a one-hot over the five operations for each edge.

        Returns:
            (len(archs), 30) float32.
        """
        onehot = _operations(archs)[..., None] == torch.arange(len(OPERATIONS))
        return onehot.float().flatten(1)

    def graphs(self, archs: Sequence[Cell]) -> DagBatch:
        """Graphs with operations as vertices: START, the six operations, END, and the edges `GRAPH_EDGES`.

        Source: Lee et al., ICLR 2021, released code.
        """
        ends = torch.tensor([[START, END]]).expand(len(archs), 2)
        types = torch.cat([ends[:, :1], _operations(archs) + FIRST_OPERATION, ends[:, 1:]], 1)
        return DagBatch(types, graph_adjacency().repeat(len(archs), 1, 1), torch.full((len(archs),), NUM_VERTICES))

    def from_graphs(self, graphs: DagBatch) -> list[Cell | None]:
        """Read the cells off the types of vertices 1 to 6; edges only decide whether a graph is valid.

        Valid are graphs of eight vertices with START first, END last and operations between them, where every vertex
        but START has a predecessor and every vertex but END a successor.

        Returns:
            For each graph its cell, or None where it is not valid.

        Source: Lee et al., ICLR 2021, released code.
        """
        if graphs.max_nodes < NUM_VERTICES:
            return [None] * len(graphs)
        valid = _is_valid(graphs)
        cells = iter(_cells_of(graphs.types[valid, 1 : NUM_VERTICES - 1] - FIRST_OPERATION))
        return [next(cells) if good else None for good in valid.tolist()]

    def build(self, arch: Cell, num_classes: int, resolution: int) -> nn.Module:
        """The network, freshly initialised from torch's global generator.

        Raises:
            ValueError: the resolution is not divisible by 4.
        """
        check_resolution(resolution)
        return CellNetwork(arch.edges, num_classes, channels=self.channels, cells_per_stage=self.cells_per_stage)

    def cost(self, arch: Cell, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions and classifier, in closed form.

        Convolutions whose result goes nowhere count: the benchmark has their weights and computes them.

        Raises:
            ValueError: the resolution is not divisible by 4.
        """
        check_resolution(resolution)
        taps = [{"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(operation, 0) for _, _, operation in arch.edges]
        num_convs = len(taps) - taps.count(0)
        width, side = self.channels, resolution
        params, macs = 29 * width, 27 * width * side**2
        for stage in range(3):
            if stage:  # the residual block before it: 3x3 convolutions c -> 2c and 2c -> 2c, and a shortcut c -> 2c
                kernels = (18 + 36 + 2) * width**2
                width, side = 2 * width, side // 2
                params, macs = params + kernels + 4 * width, macs + kernels * side**2
            kernels = self.cells_per_stage * sum(taps) * width**2
            params, macs = params + kernels + self.cells_per_stage * num_convs * 2 * width, macs + kernels * side**2
        return Cost(num_params=params + 2 * width + (width + 1) * num_classes, macs=macs + width * num_classes)


def positions(cells: Sequence[Cell]) -> Tensor:
    """(len(cells),) int64: where each cell stands in `NasBench201Space.all`."""
    return (_operations(cells) * torch.tensor(_PLACES)).sum(1)


def graph_adjacency() -> Tensor:
    """(8, 8) bool with `GRAPH_EDGES`."""
    adjacency = torch.zeros(NUM_VERTICES, NUM_VERTICES, dtype=torch.bool)
    sources, targets = torch.tensor(GRAPH_EDGES).T
    adjacency[sources, targets] = True
    return adjacency


def _complaint(text: str) -> str:
    """What is wrong with a malformed text: the first thing that is."""
    groups = text.split("+")
    if len(groups) != 3:
        return f"{len(groups)} groups joined by + instead of 3"
    for target, group in enumerate(groups, start=1):
        where = f"group {group!r} of node {target}"
        if len(group) < 2 or not (group.startswith("|") and group.endswith("|")):
            return f"{where} does not begin and end with |"
        terms = group[1:-1].split("|")
        if len(terms) != target:
            return f"{where} has {len(terms)} operations instead of {target}"
        for source, term in enumerate(terms):
            operation, _, number = term.partition("~")
            if operation not in OPERATIONS:
                return f"{where} has the operation {operation!r}; known are {', '.join(OPERATIONS)}"
            if number != str(source):
                return f"{where} has {term!r} where {operation}~{source} must stand"
    raise AssertionError(f"{text!r} has the form of a cell")


def _is_valid(graphs: DagBatch) -> Tensor:
    """(B,) bool, for graphs padded to eight vertices or more."""
    first = DagBatch(
        graphs.types[:, :NUM_VERTICES], graphs.adjacency[:, :NUM_VERTICES, :NUM_VERTICES], graphs.num_nodes
    )
    inner = first.types[:, 1:-1]
    known = ((inner >= FIRST_OPERATION) & (inner < NUM_TYPES)).all(1)
    forward = first.adjacency.triu(1).flatten(1).sum(1) == graphs.adjacency.flatten(1).sum(1)  # none at padding either
    return is_valid(first) & known & forward


@cache
def _all_cells() -> tuple[Cell, ...]:
    return tuple(map(Cell, product(range(len(OPERATIONS)), repeat=len(EDGES))))


def _cells_of(operations: Tensor) -> list[Cell]:
    """Cells of (B, 6) numbers of operations."""
    known, places = _all_cells(), operations.new_tensor(_PLACES)
    return [known[position] for position in (operations * places).sum(1).tolist()]


def _operations(cells: Sequence[Cell]) -> Tensor:
    """(len(cells), 6) int64."""
    return torch.tensor([cell.operations for cell in cells], dtype=torch.int64).reshape(-1, len(EDGES))
