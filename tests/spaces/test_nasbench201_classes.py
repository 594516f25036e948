"""Classes of equal cells: the published counts, and that members of a class compute the same."""

import math
from collections import defaultdict
from itertools import pairwise

import torch

from common.graphs import DagBatch
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_classes import canonical_edges, canonical_text, is_connected

SPACE = NasBench201Space()
CELLS = SPACE.all()


def output(cell: Cell, none: float) -> float:
    """The cell as a function of one number, with odd functions for convolutions and pooling, which keep zero."""
    functions = {
        "none": lambda x: none * math.atan(x),
        "skip_connect": lambda x: x,
        "nor_conv_1x1": lambda x: 1.7 * math.tanh(0.9 * x),
        "nor_conv_3x3": lambda x: 1.3 * math.sin(1.1 * x),
        "avg_pool_3x3": lambda x: 0.8 * math.asinh(0.7 * x),
    }
    nodes = [0.77, 0.0, 0.0, 0.0]
    for source, target, operation in cell.edges:
        nodes[target] += functions[operation](nodes[source])
    return round(nodes[3], 10) + 0.0


def test_there_are_as_many_classes_as_published() -> None:
    assert len({canonical_text(cell) for cell in CELLS}) == 6466
    assert len({canonical_text(cell, zeros=False) for cell in CELLS}) == 12_751


def test_cells_of_one_class_compute_the_same_and_4930_functions_are_left() -> None:
    outputs = defaultdict(set)
    for cell in CELLS:
        outputs[canonical_text(cell)].add(output(cell, none=0.0))
    assert all(len(values) == 1 for values in outputs.values())
    assert len(set.union(*outputs.values())) == 4930


def test_cells_of_one_class_compute_the_same_whatever_none_does() -> None:
    outputs = defaultdict(set)
    for cell in CELLS:
        outputs[canonical_text(cell, zeros=False)].add(output(cell, none=0.61))
    assert all(len(values) == 1 for values in outputs.values())


def test_the_canonical_text_is_the_published_one() -> None:
    cell = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|")
    one, two = "(0)@nor_conv_3x3", "(0)@nor_conv_1x1"
    assert canonical_text(cell) == f"#+({two}+{one})@nor_conv_1x1+({one})@avg_pool_3x3"
    assert canonical_text(cell, zeros=False) == f"({two}+{one})@nor_conv_1x1+({one})@avg_pool_3x3+(0)@none"


def test_a_zero_source_makes_a_zero_but_a_sum_of_zeros_is_kept() -> None:
    assert canonical_text(Cell((0, 0, 0, 0, 3, 0))) == "#+#+#"
    assert canonical_text(Cell((0, 0, 0, 0, 0, 3))) == "#+#+(#+#)@nor_conv_3x3"
    assert canonical_text(Cell((1, 1, 1, 0, 0, 1))) == "#+#+0+0"


def has_path(cell: Cell) -> bool:
    operation = {(source, target): name for source, target, name in cell.edges}
    paths = [(0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3)]
    return any(all(operation[step] != "none" for step in pairwise(path)) for path in paths)


def test_all_but_341_cells_are_connected() -> None:
    connected = [is_connected(cell) for cell in CELLS]
    assert sum(connected) == 15_284
    assert connected == [has_path(cell) for cell in CELLS]
    assert connected == [output(cell, none=0.0) != 0 for cell in CELLS]


def test_canonical_edges_are_exactly_those_of_cells() -> None:
    graphs = SPACE.graphs(SPACE.sample(100, torch.Generator().manual_seed(0)))
    assert canonical_edges(graphs).all()
    for place in ((0, 1), (2, 6), (0, 2), (4, 7)):  # two that are there and two that are not
        adjacency = graphs.adjacency.clone()
        adjacency[3][place] = ~adjacency[3][place]
        found = canonical_edges(DagBatch(graphs.types, adjacency, graphs.num_nodes))
        assert found.tolist() == [row != 3 for row in range(100)]


def test_canonical_edges_ask_for_eight_vertices_whatever_the_padding() -> None:
    graphs = SPACE.graphs(SPACE.all()[:3])
    types, adjacency = torch.zeros(3, 10, dtype=torch.int64), torch.zeros(3, 10, 10, dtype=torch.bool)
    types[:, :8], adjacency[:, :8, :8] = graphs.types, graphs.adjacency
    assert canonical_edges(DagBatch(types, adjacency, torch.tensor([8, 8, 9]))).tolist() == [True, True, False]
    adjacency[1, 7, 9] = True
    assert canonical_edges(DagBatch(types, adjacency, torch.tensor([8, 8, 8]))).tolist() == [True, False, True]
    short = DagBatch(types[:, :7], adjacency[:, :7, :7], torch.tensor([7, 7, 7]))
    assert canonical_edges(short).tolist() == [False] * 3
