"""The one panel that every figure is: it stays readable on a phone, and a page sets several in a row."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from common.report.style import ORANGE, PAPER
from common.report.text import shorten

WIDTH, HEIGHT = 4.4, 3.5
"""Inches of one panel: about 420 CSS pixels wide at natural size."""
TICK_STEPS = (1, 2, 2.5, 5, 10)
"""Distances of ticks, up to powers of ten: round numbers only."""
NAME_LENGTH = 24
"""Letters of a name that fit beside the bars."""


def panel(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; `height` in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a horizontal chart, the first on top."""
    axes.set_yticks(range(len(names)), [shorten(name, NAME_LENGTH) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.45, -0.55)


def percent_axis(axis: Axis) -> None:
    """Print the fractions of an axis as percent, with few ticks."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
    axis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))


def star(axes: Axes, x: ArrayLike, y: ArrayLike, *, gid: str, label: str, size: float = 130) -> None:
    """The mark of what was chosen, above everything else."""
    axes.scatter(x, y, s=size, marker="*", color=ORANGE, edgecolor=PAPER, linewidth=0.6, zorder=5, gid=gid, label=label)


def legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, where it covers no data; parts that repeat (one bar set a stage) are named once."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    if named:
        columns = min(3, len(named))
        place: dict[str, Any] = {
            "loc": "outside lower center",
            "ncols": columns,
            "handletextpad": 0.5,
            "columnspacing": 1.2,
        }
        figure.legend(list(named.values()), list(named), **place)
