"""The drawing of a cell: every node and edge is there, in its place, and nothing lies over anything else."""

from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from common.report import plot
from common.report.cells import LOOKS, cell_drawing

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NAMES = ("nor_conv_3x3", "avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
CELL = [(*edge, name) for edge, name in zip(EDGES, NAMES, strict=True)]


def part(figure: Figure, gid: str) -> Any:
    """The one artist that carries this id."""
    found = figure.findobj(lambda artist: artist.get_gid() == gid)
    assert len(found) == 1, f"{len(found)} artists named {gid}"
    return found[0]


def points(figure: Figure, source: int, target: int) -> np.ndarray:
    """Points along an edge, without its ends at the nodes, in data coordinates."""
    curve = part(figure, f"edge:{source}-{target}")._path_original
    t = np.linspace(0, 1, 41)[:, None]
    if len(curve.vertices) == 2:
        return (1 - t) * curve.vertices[0] + t * curve.vertices[1]
    a, b, c, d = curve.vertices
    return (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d


def test_every_edge_has_its_operation_in_words_and_colour() -> None:
    figure = cell_drawing(CELL)
    for source, target, operation in CELL:
        look = LOOKS[operation]
        assert part(figure, f"operation:{source}-{target}").get_text() == look.label
        edge = part(figure, f"edge:{source}-{target}")
        assert matplotlib.colors.to_hex(edge.get_edgecolor()) == look.color
    assert {look.label for look in LOOKS.values()} == {"conv 3x3", "conv 1x1", "avg pool 3x3", "skip", "none"}


def test_edges_lead_from_node_to_node_downwards() -> None:
    figure = cell_drawing(CELL)
    for source, target in EDGES:
        edge = points(figure, source, target)
        for end, node in ((edge[0], source), (edge[-1], target)):
            circle = part(figure, f"node:{node}")
            assert np.linalg.norm(end - circle.center) == pytest.approx(circle.radius)
        assert (np.diff(edge[:, 1]) > 0).all()
    assert figure.axes[0].yaxis_inverted()


def test_nothing_arrives_through_an_edge_of_none() -> None:
    figure = cell_drawing(CELL)
    heads = {edge: part(figure, f"edge:{edge[0]}-{edge[1]}").get_arrowstyle() for edge in EDGES}
    ends = {edge for edge, style in heads.items() if style.arrow == "-"}
    assert ends == {(1, 2)}


def test_no_two_edges_of_a_cell_cross_and_none_runs_through_a_node() -> None:
    figure = cell_drawing(CELL)
    lines = {edge: points(figure, *edge) for edge in EDGES}
    for first, second in combinations(EDGES, 2):
        distances = np.linalg.norm(lines[first][1:-1, None] - lines[second][None, 1:-1], axis=-1)
        assert distances.min() > 0.02, (first, second)
    for edge, line in lines.items():
        for node in {*range(4)} - {*edge}:
            circle = part(figure, f"node:{node}")
            assert np.linalg.norm(line - circle.center, axis=1).min() > 1.5 * circle.radius, (edge, node)


def test_labels_lie_on_their_edges_apart_from_one_another_and_inside_the_figure() -> None:
    longest = [(*edge, "avg_pool_3x3") for edge in EDGES]
    figure = cell_drawing(longest)
    figure.draw_without_rendering()
    boxes = {}
    for source, target in EDGES:
        label = part(figure, f"operation:{source}-{target}")
        nearest = np.linalg.norm(points(figure, source, target) - np.array(label.get_position()), axis=1).min()
        assert nearest < 0.04  # the ends are drawn back to the rims of the nodes
        boxes[source, target] = label.get_window_extent()
    assert not [pair for pair in combinations(boxes, 2) if boxes[pair[0]].overlaps(boxes[pair[1]])]
    frame = figure.bbox
    for box in boxes.values():
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1


def test_the_input_is_named_on_top_and_the_output_below() -> None:
    texts = {text.get_text(): text.get_position()[1] for text in cell_drawing(CELL).axes[0].texts}
    assert texts["input"] == texts["0"] == 0
    assert texts["output"] == texts["3"] == 3


def test_other_operations_stand_under_their_own_names_cut_to_fit() -> None:
    figure = cell_drawing([(0, 1, "sep_conv_5x5_dilated"), (1, 2, "mine$^2$")])
    assert part(figure, "operation:0-1").get_text() == "sep_conv_5x..."
    drawing = plot(figure, alt="a cell", caption="").html
    assert "mine$^2$" in drawing
    assert "node:" not in drawing  # ids are for tests and callers; the page keeps those that are referred to


def test_equal_cells_give_equal_small_drawings() -> None:
    before = dict(matplotlib.rcParams)
    first, second = (plot(cell_drawing(CELL), alt="a", caption="b").html for _ in range(2))
    assert first == second
    assert len(first) < 20_000
    assert "var(--ink)" in first
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("edges", [[], [(1, 0, "none")], [(0, 0, "none")], [(0, 1, "none"), (0, 1, "skip_connect")]])
def test_edges_that_cannot_be_drawn_are_refused(edges: list[tuple[int, int, str]]) -> None:
    with pytest.raises(ValueError, match=r"cell: edges \[.*\]; give at least one, each pair of nodes once"):
        cell_drawing(edges)
