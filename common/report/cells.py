"""The drawing of a cell: nodes from input to output, and an operation on every edge."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path

from common.report.panel import panel
from common.report.style import BLUE, GRAY, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, RULE
from common.report.svg import SETTINGS
from common.report.text import shorten

LABEL_LENGTH = 14
"""Letters of an operation that fit beside its edge."""
_ROW = 0.95
"""Inches between two nodes, which is the unit of the drawing."""
_RADIUS = 0.14
_MARGIN = 0.55
"""Half of the longest label."""


class _Look(NamedTuple):
    label: str
    color: str
    line: str = "-"


LOOKS = {
    "nor_conv_3x3": _Look("conv 3x3", BLUE),
    "nor_conv_1x1": _Look("conv 1x1", GREEN),
    "avg_pool_3x3": _Look("avg pool 3x3", PURPLE),
    "skip_connect": _Look("skip", GRAY, "--"),
    "none": _Look("none", RULE, ":"),
}
"""How the operations of NAS-Bench-201 are drawn; others are drawn in orange under their own name."""


@matplotlib.rc_context(SETTINGS)
def cell_drawing(edges: Sequence[tuple[int, int, str]]) -> Figure:
    """One cell, from the input (top) to the output.

    Edges to the next node are straight; those that pass nodes by bend, from even nodes to the left and from odd ones to
    the right, so that in a cell of four nodes no two cross. An edge carries the `gid` `edge:0-1`, its name
    `operation:0-1`.

    Args:
        edges: (source, target, operation); sources lie below their targets, 0 is the input.

    Raises:
        ValueError: no edges, an edge that does not point forward, or two between the same nodes.
    """
    pairs = [(source, target) for source, target, _ in edges]
    wrong = [pair for pair in pairs if not 0 <= pair[0] < pair[1]]
    if not pairs or wrong or len({*pairs}) < len(pairs):
        raise ValueError(f"cell: edges {pairs}; give at least one, each pair of nodes once, the lower number first")
    last = max(target for _, target in pairs)
    figure, axes = panel(height=0.6 + _ROW * last)
    axes.set_aspect("equal")
    for source, target, operation in edges:
        _edge(axes, source, target, LOOKS.get(operation, _Look(shorten(operation, LABEL_LENGTH), ORANGE)))
    for node in range(last + 1):
        circle = Circle((0, node), _RADIUS, facecolor=PAPER, edgecolor=INK, linewidth=1.2, zorder=4, gid=f"node:{node}")
        axes.add_patch(circle)
        axes.text(0, node, str(node), ha="center", va="center_baseline", fontsize=9.5, zorder=5)
    for node, name in ((0, "input"), (last, "output")):
        axes.text(1.5 * _RADIUS, node, name, va="center_baseline", color=MUTED, fontsize=9, zorder=5)
    bends = [_bend(*pair) for pair in pairs]
    axes.set(xlim=(min(0, *bends) - _MARGIN, max(0, *bends) + _MARGIN), ylim=(last + 0.25, -0.25))
    axes.set_axis_off()
    return figure


def _bend(source: int, target: int) -> float:
    """How far to the right of the nodes the middle of an edge lies."""
    span = target - source
    aside = 0.0 if span == 1 else 0.75 * span - 0.5
    return aside if source % 2 else -aside


def _edge(axes: Axes, source: int, target: int, look: _Look) -> None:
    bend = _bend(source, target)
    slope = 0.7 if target - source == 2 else 0.15  # longer edges leave a node flatter, above the shorter ones
    turns = np.array([[4 / 3 * bend, source + slope], [4 / 3 * bend, target - slope]])  # a cubic's middle is at bend
    ends = np.array([[0.0, source], [0.0, target]])
    ways = turns - ends if bend else ends[::-1] - ends
    ends += _RADIUS * ways / np.linalg.norm(ways, axis=1, keepdims=True)
    curve = Path([ends[0], *turns, ends[1]], [Path.MOVETO, *[Path.CURVE4] * 3]) if bend else Path(ends)
    head = "-|>" if look.line != ":" else "-"  # nothing arrives through a dotted edge
    arrow = FancyArrowPatch(path=curve, arrowstyle=head, mutation_scale=12, color=look.color, linewidth=1.6)
    arrow.set(linestyle=look.line, gid=f"edge:{source}-{target}", zorder=2)
    axes.add_patch(arrow)
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 9, "zorder": 3}
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
    gid, color = f"operation:{source}-{target}", MUTED if look.color == RULE else look.color
    axes.text(bend, (source + target) / 2, look.label, color=color, bbox=box, gid=gid, **place)
