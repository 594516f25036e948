"""Which graphs count as whole, by each part of the rule."""

import pytest
import torch

from common.graphs import DagBatch, is_valid

TYPES = [0, 5, 2, 6, 3, 3, 4, 1]
EDGES = [(0, 1), (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 4), (3, 6), (4, 5), (5, 6), (6, 7)]


def graph(types: list[int], edges: list[tuple[int, int]], num_nodes: int = 8) -> DagBatch:
    adjacency = torch.zeros(1, 8, 8, dtype=torch.bool)
    for source, target in edges:
        adjacency[0, source, target] = True
    return DagBatch(torch.tensor([types]), adjacency, torch.tensor([num_nodes]))


def changed(types: dict[int, int]) -> list[int]:
    return [types.get(vertex, kind) for vertex, kind in enumerate(TYPES)]


PATH = [(vertex, vertex + 1) for vertex in range(7)]


@pytest.mark.parametrize("edges", [EDGES, PATH, [*PATH, (0, 7)], [(u, v) for v in range(8) for u in range(v)]])
def test_connected_graphs_are_valid_whatever_their_edges(edges: list[tuple[int, int]]) -> None:
    assert is_valid(graph(TYPES, edges)).tolist() == [True]


@pytest.mark.parametrize(
    ("types", "edges", "num_nodes"),
    [
        (changed({3: 0}), EDGES, 8),  # a second START
        (changed({3: 1}), EDGES, 8),  # a second END
        (changed({0: 4}), EDGES, 8),  # no START
        (changed({7: 4}), EDGES, 8),  # no END
        (changed({0: 4, 1: 0}), EDGES, 8),  # START has a predecessor, and the first vertex none
        (TYPES, [edge for edge in EDGES if edge[1] != 4], 8),  # a vertex without predecessor
        (TYPES, [edge for edge in EDGES if edge[0] != 4], 8),  # a vertex without successor
        (TYPES, [edge for edge in EDGES if edge[0] != 0], 8),  # START leads nowhere
        (TYPES, [], 8),
        ([0, 5, 2, 6, 3, 3, 1, 0], [*PATH[:6]], 7),  # seven vertices
    ],
)
def test_each_part_of_the_rule_is_needed(types: list[int], edges: list[tuple[int, int]], num_nodes: int) -> None:
    assert is_valid(graph(types, edges, num_nodes)).tolist() == [False]


def test_graphs_of_a_batch_are_judged_each_for_itself() -> None:
    whole, broken = graph(TYPES, EDGES), graph(TYPES, EDGES[1:])
    batch = DagBatch(
        torch.cat([whole.types, broken.types, whole.types]),
        torch.cat([whole.adjacency, broken.adjacency, whole.adjacency]),
        torch.tensor([8, 8, 8]),
    )
    assert is_valid(batch).tolist() == [True, False, True]
