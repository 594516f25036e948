"""The NAS-Bench-201 space: its text form, its codes and the graphs that stand for its cells."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.graphs import DagBatch
from common.spaces.base import SearchSpace
from common.spaces.nasbench201 import EDGES, GRAPH_EDGES, OPERATIONS, Cell, NasBench201Space, positions
from common.spaces.nasbench201_classes import canonical_edges

SPACE = NasBench201Space()
CELLS = SPACE.all()
RESNET_LIKE = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def graph(types: list[int], edges: list[tuple[int, int]], length: int = 0) -> DagBatch:
    """One graph, padded to `length` vertices."""
    length = max(length, len(types))
    padded = torch.zeros(1, length, dtype=torch.int64)
    padded[0, : len(types)] = torch.tensor(types)
    adjacency = torch.zeros(1, length, length, dtype=torch.bool)
    for source, target in edges:
        adjacency[0, source, target] = True
    return DagBatch(padded, adjacency, torch.tensor([len(types)]))


def test_the_space_has_the_published_operations_edges_and_size() -> None:
    assert OPERATIONS == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert EDGES == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert SPACE.size() == len(set(CELLS)) == 15_625
    assert [cell.operations for cell in CELLS] == list(product(range(5), repeat=6))
    assert torch.equal(positions(CELLS), torch.arange(15_625))


def test_the_space_is_a_search_space() -> None:
    space: SearchSpace[Cell] = SPACE
    assert space.name == "nasbench201-16x5"
    assert NasBench201Space(channels=8, cells_per_stage=1).name == "nasbench201-8x1"


def test_text_parses_back_to_every_cell_and_cells_to_every_text() -> None:
    texts = [SPACE.format(cell) for cell in CELLS]
    assert len(set(texts)) == 15_625
    assert [SPACE.parse(text) for text in texts] == CELLS
    assert SPACE.parse(f"  {BEST}\n").operations == (3, 3, 3, 1, 3, 3)


def test_the_text_form_is_the_published_one() -> None:
    cell = Cell((4, 2, 1, 2, 1, 0))
    assert (
        SPACE.format(cell) == "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|none~2|"
    )
    assert cell.edges[:3] == ((0, 1, "avg_pool_3x3"), (0, 2, "nor_conv_1x1"), (1, 2, "skip_connect"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"1 groups joined by \+ instead of 3"),
        ("|none~0|+|none~0|none~1|", r"2 groups joined by \+ instead of 3"),
        ("none~0+|none~0|none~1|+|none~0|none~1|none~2|", r"group 'none~0' of node 1 does not begin and end with \|"),
        ("||+|none~0|none~1|+|none~0|none~1|none~2|", r"group '\|\|' of node 1 has the operation ''; known are none,"),
        ("|+|none~0|none~1|+|none~0|none~1|none~2|", r"group '\|' of node 1 does not begin and end with \|"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "of node 2 has 1 operations instead of 2"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|none~3|", "of node 3 has 4 operations instead of 3"),
        ("|conv_5x5~0|+|none~0|none~1|+|none~0|none~1|none~2|", "has the operation 'conv_5x5'; known are none, skip"),
        ("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "has 'none~0' where none~1 must stand"),
        ("|none|+|none~0|none~1|+|none~0|none~1|none~2|", "has 'none' where none~0 must stand"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~02|", "has 'none~02' where none~2 must stand"),
    ],
)
def test_malformed_texts_are_refused_with_the_place_and_an_example(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        SPACE.parse(text)
    message = str(caught.value)
    assert message.startswith(f"cell {text!r} is malformed: ")
    assert "\n" not in message
    example = message.rsplit("a cell is like ", 1)[1].strip("'")
    assert SPACE.format(SPACE.parse(example)) == example


def mutated() -> st.SearchStrategy[str]:
    """Texts of cells after some letters were replaced, dropped or put in."""
    edits = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 2), st.sampled_from("|+~0123 \nnoe")), max_size=3)

    def apply(case: tuple[Cell, list[tuple[int, int, str]]]) -> str:
        text = SPACE.format(case[0])
        for place, kept, letter in case[1]:
            text = text[:place] + letter + text[place + kept :]
        return text

    cells = st.tuples(*[st.integers(0, 4)] * 6).map(Cell)
    return st.tuples(cells, edits).map(apply)


@settings(max_examples=100, deadline=None)
@given(mutated() | st.text(max_size=30))
def test_every_text_is_a_cell_or_a_value_error_in_one_line(text: str) -> None:
    try:
        cell = SPACE.parse(text)
    except ValueError as error:
        message = str(error)
    else:
        assert SPACE.format(cell) == text.strip()
        return
    assert message.startswith("cell ")
    assert "\n" not in message


@pytest.mark.parametrize("operations", [(), (0,) * 5, (0,) * 7, (0, 0, 0, 0, 0, 5), (-1, 0, 0, 0, 0, 0), [0] * 6])
def test_a_cell_has_six_operations_from_none_to_pooling(operations: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a tuple of six numbers of operations from 0 to 4 is needed"):
        Cell(operations)


@pytest.mark.parametrize("field", ["channels", "cells_per_stage"])
def test_impossible_spaces_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} 0: at least 1 is needed"):
        NasBench201Space(**{field: 0})


def test_samples_repeat_with_the_seed_and_longer_ones_begin_with_shorter_ones() -> None:
    assert SPACE.sample(300, draws(1)) == SPACE.sample(300, draws(1))
    assert SPACE.sample(300, draws(1)) != SPACE.sample(300, draws(2))
    assert SPACE.sample(300, draws(1))[:17] == SPACE.sample(17, draws(1))
    assert SPACE.sample(0, draws()) == []


def test_samples_are_uniform_over_operations_on_every_edge() -> None:
    operations = torch.tensor([cell.operations for cell in SPACE.sample(5000, draws(3))])
    for edge in range(6):
        counts = operations[:, edge].bincount(minlength=5)
        assert (counts - 1000).abs().max() < 5 * 800**0.5


def test_codes_are_one_hot_over_the_operations_of_each_edge() -> None:
    codes = SPACE.encode(CELLS)
    assert codes.shape == (15_625, 30)
    assert codes.dtype == torch.float32
    assert torch.equal(codes.unflatten(1, (6, 5)).argmax(2), torch.tensor([cell.operations for cell in CELLS]))
    assert (codes.sum(1) == 6).all()
    assert len(codes.unique(dim=0)) == 15_625
    assert SPACE.encode([]).shape == (0, 30)


def test_the_graph_of_a_cell_has_the_published_types_and_eleven_edges() -> None:
    graphs = SPACE.graphs([SPACE.parse(BEST), SPACE.parse(RESNET_LIKE)])
    assert graphs.types.tolist() == [[0, 5, 5, 5, 3, 5, 5, 1], [0, 5, 2, 5, 3, 2, 3, 1]]
    assert graphs.num_nodes.tolist() == [8, 8]
    published = {(0, 1), (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 4), (3, 6), (4, 5), (5, 6), (6, 7)}
    assert {*GRAPH_EDGES} == published
    for adjacency in graphs.adjacency:
        assert {(int(u), int(v)) for u, v in adjacency.nonzero()} == published


def test_the_graphs_hold_the_dependences_between_operations_and_the_path() -> None:
    feeds = {(i, j) for i, a in enumerate(EDGES, 1) for j, b in enumerate(EDGES, 1) if a[1] == b[0]}
    path = {(vertex, vertex + 1) for vertex in range(7)}
    assert {*GRAPH_EDGES} == feeds | path


def test_cell_to_graph_to_cell_is_the_identity() -> None:
    graphs = SPACE.graphs(CELLS).check(num_types=7)
    assert SPACE.from_graphs(graphs) == CELLS
    again = SPACE.graphs([cell for cell in SPACE.from_graphs(graphs) if cell is not None])
    assert torch.equal(again.types, graphs.types)
    assert torch.equal(again.adjacency, graphs.adjacency)
    assert len(SPACE.graphs([])) == 0
    assert SPACE.from_graphs(SPACE.graphs([])) == []


def slow_cell(graphs: DagBatch, row: int) -> Cell | None:
    """The rule as it is published, vertex by vertex."""
    num = int(graphs.num_nodes[row])
    types = graphs.types[row, :num].tolist()
    edges = [(int(u), int(v)) for u, v in graphs.adjacency[row].nonzero()]
    if num != 8 or types.count(0) != 1 or types.count(1) != 1 or any(u >= v or v >= num for u, v in edges):
        return None
    for vertex, kind in enumerate(types):
        if kind != 0 and not any(v == vertex for _, v in edges):
            return None
        if kind != 1 and not any(u == vertex for u, _ in edges):
            return None
    if any(kind not in range(2, 7) for kind in types[1:7]):
        return None
    return Cell(tuple(kind - 2 for kind in types[1:7]))


@pytest.mark.parametrize("length", [7, 8, 10])
def test_reading_graphs_equals_the_rule_vertex_by_vertex(length: int) -> None:
    torch.manual_seed(length)
    batch = 600
    types = torch.randint(2, 7, (batch, length))
    types[:, 0] = 0
    types[:, min(7, length - 1)] = 1
    spoilt = torch.rand(batch, length) < 0.03
    types[spoilt] = torch.randint(0, 9, (int(spoilt.sum()),))
    adjacency = (torch.rand(batch, length, length) < 0.5).triu(1)
    num_nodes = torch.full((batch,), min(8, length))
    num_nodes[::9] = torch.randint(1, length + 1, (len(num_nodes[::9]),))
    if length > 8:  # padding has no edges, but for a few graphs
        adjacency[20:, 8:] = False
        adjacency[20:, :, 8:] = False
    graphs = DagBatch(types, adjacency, num_nodes)
    cells = SPACE.from_graphs(graphs)
    assert cells == [slow_cell(graphs, row) for row in range(batch)]
    assert (length >= 8) == any(cells)
    assert None in cells


CANONICAL = [(0, 1), (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 4), (3, 6), (4, 5), (5, 6), (6, 7)]
TYPES = [0, 5, 5, 5, 3, 5, 5, 1]


@pytest.mark.parametrize("length", [8, 11])
def test_edges_do_not_change_the_cell_of_a_valid_graph(length: int) -> None:
    path = [(vertex, vertex + 1) for vertex in range(7)]
    star = [(0, vertex) for vertex in range(1, 7)] + [(vertex, 7) for vertex in range(1, 7)]
    full = [(u, v) for v in range(8) for u in range(v)]
    for edges in (CANONICAL, path, star, full):
        assert SPACE.from_graphs(graph(TYPES, edges, length)) == [SPACE.parse(BEST)]


@pytest.mark.parametrize(
    ("types", "edges"),
    [
        pytest.param([*TYPES[:6], 1], [e for e in CANONICAL if 7 not in e] + [(4, 6)], id="seven vertices"),
        pytest.param([*TYPES[:7], 5, 1], [*CANONICAL, (7, 8)], id="nine vertices"),
        pytest.param([0, 5, 0, 5, 3, 5, 5, 1], CANONICAL, id="START inside"),
        pytest.param([0, 5, 5, 5, 1, 5, 5, 1], CANONICAL, id="END inside"),
        pytest.param([2, 5, 5, 5, 3, 5, 5, 1], CANONICAL, id="no START"),
        pytest.param([0, 5, 5, 5, 3, 5, 5, 2], CANONICAL, id="no END"),
        pytest.param([1, 5, 5, 5, 3, 5, 5, 0], CANONICAL, id="START last"),
        pytest.param([0, 5, 5, 7, 3, 5, 5, 1], CANONICAL, id="unknown type"),
        pytest.param([0, 5, 5, -1, 3, 5, 5, 1], CANONICAL, id="negative type"),
        pytest.param(TYPES, [e for e in CANONICAL if e != (1, 2)], id="a vertex without predecessor"),
        pytest.param(TYPES, [e for e in CANONICAL if e != (4, 5)], id="a vertex without successor"),
        pytest.param(TYPES, [e for e in CANONICAL if e != (6, 7)], id="END without predecessor"),
        pytest.param(TYPES, [e for e in CANONICAL if e != (0, 1)], id="START without successor"),
        pytest.param(TYPES, [*CANONICAL, (3, 2)], id="cycle"),
        pytest.param(TYPES, [*CANONICAL, (3, 3)], id="loop"),
        pytest.param([*TYPES, 4], [*CANONICAL, (5, 8)], id="an edge to a ninth vertex"),
    ],
)
def test_invalid_graphs_are_no_cells(types: list[int], edges: list[tuple[int, int]]) -> None:
    assert SPACE.from_graphs(graph(types, edges)) == [None]
    assert SPACE.from_graphs(graph(types, edges, 12)) == [None]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_graphs_on_a_gpu_are_read_as_on_the_cpu() -> None:
    graphs = SPACE.graphs(SPACE.sample(500, draws(7)))
    graphs.types[::5, 3] = 0
    graphs.adjacency[::7, 1, 5] = False
    moved = graphs.to(torch.device("cuda"))
    assert SPACE.from_graphs(moved) == SPACE.from_graphs(graphs)
    assert torch.equal(canonical_edges(moved).cpu(), canonical_edges(graphs))
