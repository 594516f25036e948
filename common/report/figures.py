"""Figures of a report: curves, bars, spreads and networks, made without pyplot and its global state.

Values come in base units (counts, fractions); axes print them as percent. The parts a reader looks for carry a `gid`,
by which tests and callers find them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from common.report.panel import NAME_LENGTH, TICK_STEPS, legend, name_rows, panel, percent_axis, star
from common.report.style import BLUE, GRAY, INK, MUTED, PAPER, RULE, SERIES
from common.report.svg import SETTINGS
from common.report.text import shorten

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One quantity over the course of a run; NaN marks steps without a value."""

    steps: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"curve: {len(self.steps)} steps for {len(self.values)} values; give one value a step")


@matplotlib.rc_context(SETTINGS)
def training_curves(
    runs: Mapping[str, Sequence[Curve]],
    *,
    value_label: str,
    step_label: str = "epoch",
    is_fraction: bool = False,
    is_log: bool = False,
    mark: tuple[float, float] | None = None,
) -> Figure:
    """One line for each name: the mean over its runs, with a band from the lowest to the highest run.

    Args:
        runs: name -> runs; a band needs two runs and spans the steps that all of them have.
        value_label: axis title.
        step_label: axis title.
        is_fraction: values in [0, 1], printed as percent.
        is_log: logarithmic values; those that are not positive leave a gap.
        mark: (step, value) of a point to point out, as the checkpoint that was kept.
    """
    figure, axes = panel()
    for index, (name, curves) in enumerate(runs.items()):
        steps, values = _aligned(curves)
        color = SERIES[index % len(SERIES)]
        style = ("-", "--", ":")[index // len(SERIES) % 3]
        symbol = "o" if len(steps) <= 40 else None
        look: dict[str, Any] = {"color": color, "linestyle": style, "marker": symbol, "markersize": 3, "linewidth": 1.6}
        axes.plot(steps, values.mean(0), label=shorten(name, NAME_LENGTH), gid=f"mean:{name}", **look)
        if len(values) > 1:
            band = (values.min(0), values.max(0))
            axes.fill_between(steps, *band, color=color, alpha=0.2, linewidth=0, gid=f"band:{name}")
    if mark is not None:
        star(axes, [mark[0]], [mark[1]], gid="mark", label="kept")
    if is_log:
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_formatter("{x:g}")  # powers of ten as plain numbers: formulas are not drawn
        axes.yaxis.set_minor_formatter("")
    if is_fraction:
        percent_axis(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=TICK_STEPS))
    axes.set(xlabel=step_label, ylabel=value_label)
    legend(figure, axes)
    return figure


@matplotlib.rc_context(SETTINGS)
def grouped_bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    value_label: str,
    limits: Mapping[str, float] | None = None,
) -> Figure:
    """Horizontal bars: for each group one bar of each series with its value beside it.

    Args:
        groups: names down the axis.
        series: name -> one value a group; NaN leaves the bar out and says "none".
        value_label: axis title.
        limits: group -> the largest value that is within reach (label noise), drawn as a line across its bars.

    Raises:
        ValueError: a series has another number of values than there are groups.
    """
    for name, values in series.items():
        if len(values) != len(groups):
            raise ValueError(f"bars: series {name!r} has {len(values)} values for {len(groups)} groups")
    thickness = 0.8 / max(1, len(series))
    figure, axes = panel(height=1.1 + 0.19 * len(groups) * (len(series) + 1))
    places = np.arange(len(groups), dtype=float)
    for index, (name, values) in enumerate(series.items()):
        centers = places - 0.4 + (index + 0.5) * thickness
        widths = np.nan_to_num(np.asarray(values, dtype=float))
        color = SERIES[index % len(SERIES)]
        label = shorten(name, NAME_LENGTH)
        bars = axes.barh(centers, widths, height=0.9 * thickness, color=color, gid=f"bars:{name}", label=label)
        texts = ["none" if np.isnan(value) else f"{value:.2f}" for value in values]
        axes.bar_label(bars, texts, padding=3, fontsize=8.5, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5})
    _limits(axes, groups, limits or {})
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.margins(x=0.14)
    axes.grid(False, axis="y")
    name_rows(axes, groups)
    axes.set_xlabel(value_label)
    legend(figure, axes)
    return figure


@matplotlib.rc_context(SETTINGS)
def value_spread(
    groups: Mapping[str, ArrayLike], *, marks: Mapping[str, float], mark_label: str, value_label: str
) -> Figure:
    """For each group the range (thin), the middle half (thick) and the median of its accuracies, and one marked value.

    Args:
        groups: name -> (N,) accuracies in [0, 1].
        marks: name -> the value to point out; groups without one have none.
        mark_label: what a marked value is.
        value_label: axis title.
    """
    figure, axes = panel(height=1.3 + 0.42 * len(groups))
    quantiles = np.array(
        [np.quantile(np.asarray(values, float), (0, 0.25, 0.5, 0.75, 1)) for values in groups.values()]
    )
    places = np.arange(len(groups), dtype=float)
    low, first, median, third, high = quantiles.reshape(-1, 5).T
    axes.hlines(places, low, high, color=GRAY, linewidth=1.2, gid="range", label="worst to best")
    axes.hlines(places, first, third, color=BLUE, linewidth=8, alpha=0.6, gid="half", label="middle half")
    axes.scatter(median, places, s=34, marker="|", color=INK, linewidth=2, zorder=3, gid="median", label="median")
    rows = [(marks[name], place) for name, place in zip(groups, places, strict=True) if name in marks]
    if rows:
        star(axes, [value for value, _ in rows], [place for _, place in rows], gid="marked", label=mark_label)
    percent_axis(axes.xaxis)
    axes.grid(False, axis="y")
    name_rows(axes, list(groups))
    axes.set_xlabel(value_label)
    legend(figure, axes)
    return figure


@matplotlib.rc_context(SETTINGS)
def block_widths(student: Sequence[Sequence[int]], teacher: Sequence[Sequence[int]]) -> Figure:
    """Depth and width of a student against its teacher: from input (top) to output, one bar of channels for each block.

    Args:
        student: for each stage the channels of its blocks.
        teacher: the same of the teacher, with as many stages.

    Raises:
        ValueError: the two have different numbers of stages.
    """
    if len(student) != len(teacher):
        raise ValueError(f"blocks: student has {len(student)} stages, teacher {len(teacher)}; both need the same")
    slots = [max(len(ours), len(theirs)) for ours, theirs in zip(student, teacher, strict=True)]
    figure, axes = panel(height=0.9 + 0.165 * (sum(slots) + len(slots)))
    largest = max(width for stages in (student, teacher) for stage in stages for width in stage)
    top, middles = 0.0, []
    for ours, theirs, height in zip(student, teacher, slots, strict=True):
        places = top + np.arange(height)
        axes.barh(places[: len(theirs)], theirs, height=0.82, color=RULE, gid="teacher", label="teacher")
        axes.barh(places[: len(ours)], ours, height=0.82, color=BLUE, gid="student", label="student")
        for place, width in zip(places, ours, strict=False):
            axes.text(max(width, theirs[-1]) + 0.015 * largest, place, str(width), va="center", fontsize=8)
        middles.append(top + (height - 1) / 2)
        top += height + 0.9
    axes.set_yticks(middles, [f"stage {index + 1}" for index in range(len(slots))])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.invert_yaxis()
    axes.set_xlabel("channels of a block")
    legend(figure, axes)
    return figure


def _aligned(curves: Sequence[Curve]) -> tuple[Values, Values]:
    """Steps common to all runs, and (runs, steps) values at them."""
    if not curves:
        return np.empty(0), np.empty((1, 0))
    tables = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    steps = sorted(set(tables[0]).intersection(*tables[1:]))
    values = [[values[step] for step in steps] for values in tables]
    return np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)


def _limits(axes: Axes, groups: Sequence[str], limits: Mapping[str, float]) -> None:
    rows = [(limits[name], place) for place, name in enumerate(groups) if name in limits]
    if rows:
        x, y = np.asarray(rows, dtype=float).T
        axes.vlines(x, y - 0.43, y + 0.43, color=INK, linewidth=1.6, gid="limit", label="ceiling")
