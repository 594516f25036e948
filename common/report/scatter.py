"""Scores against costs and against measurements: the clouds of points of a report.

Values come in base units (counts, fractions); axes print them as mega and percent. The parts a reader looks for carry a
`gid`, by which tests and callers find them.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from common.report.panel import TICK_STEPS, legend, panel, percent_axis, star
from common.report.style import BLUE, GREEN, MUTED, ORANGE
from common.report.svg import SETTINGS

Values = NDArray[np.float64]

MAX_VECTOR_POINTS = 1500
"""Larger clouds of points are embedded as pixels, or the page would grow by 100 bytes a point."""


def pareto_front(costs: ArrayLike, scores: ArrayLike) -> list[int]:
    """Indices of the points that no other beats: none costs at most as much and scores at least as much, one strictly.

    Args:
        costs: (N,), lower is better.
        scores: (N,), higher is better.

    Returns:
        Indices ordered by cost; of equal points all or none are in.

    Raises:
        ValueError: the lengths differ or a value is not finite.
    """
    cost, score = _points(costs, scores)
    levels, level = np.unique(cost, return_inverse=True)
    best = np.full(len(levels), -np.inf)
    np.maximum.at(best, level, score)
    cheaper = np.concatenate(([-np.inf], np.maximum.accumulate(best)))[: len(levels)]
    on_front = np.flatnonzero((score == best[level]) & (score > cheaper[level]))
    return [int(index) for index in on_front[np.argsort(cost[on_front], kind="stable")]]


@matplotlib.rc_context(SETTINGS)
def cost_scatter(
    costs: ArrayLike,
    scores: ArrayLike,
    *,
    chosen: Sequence[int],
    cost_label: str,
    score_label: str,
    bound: float | None = None,
) -> Figure:
    """Scores of candidates against a cost, with their Pareto front and the chosen ones.

    Args:
        costs: (N,) counts.
        scores: (N,), higher is better.
        chosen: indices, best first; the first is drawn as a star, the others as rings.
        cost_label: axis title.
        score_label: axis title.
        bound: largest allowed cost, drawn where it lies near the candidates.
    """
    cost, score = _points(costs, scores)
    figure, axes = panel()
    _cloud(axes, cost, score, "candidates")
    front = pareto_front(cost, score)
    line: dict[str, Any] = {"color": MUTED, "linewidth": 1, "drawstyle": "steps-post"}
    axes.plot(cost[front], score[front], gid="front", label="best at its cost", **line)
    if bound is not None and bound <= cost.max() + 0.25 * np.ptp(cost):
        axes.axvline(bound, color=MUTED, linestyle=":", gid="bound", label="bound")
    _mark(axes, cost, score, chosen)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.set(xlabel=cost_label, ylabel=score_label)
    legend(figure, axes)
    return figure


@matplotlib.rc_context(SETTINGS)
def ranking_scatter(
    predicted: ArrayLike, measured: ArrayLike, *, chosen: Sequence[int] = (), teacher: float | None = None
) -> Figure:
    """Predicted scores against measured accuracies of the same networks.

    Args:
        predicted: (N,) scores.
        measured: (N,) accuracies in [0, 1].
        chosen: indices picked by the predictor, best first.
        teacher: the teacher's accuracy in [0, 1], a horizontal line.
    """
    score, accuracy = _points(predicted, measured)
    figure, axes = panel()
    _cloud(axes, score, accuracy, "networks", size=20)
    if teacher is not None:
        axes.axhline(teacher, color=GREEN, linestyle="--", linewidth=1.2, gid="teacher", label="teacher")
    _mark(axes, score, accuracy, chosen)
    percent_axis(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.set(xlabel="predicted score", ylabel="measured accuracy")
    legend(figure, axes)
    return figure


def _points(x: ArrayLike, y: ArrayLike) -> tuple[Values, Values]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(f"figure: shapes {first.shape} and {second.shape}; give two non-empty vectors of one length")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("figure: a value is NaN or infinite; leave such points out")
    return first, second


def _cloud(axes: Axes, x: Values, y: Values, name: str, size: float = 11) -> None:
    is_large = len(x) > MAX_VECTOR_POINTS
    label, alpha = f"{len(x):,} {name}", 0.3 if is_large else 0.5
    axes.scatter(x, y, s=size, color=BLUE, alpha=alpha, linewidth=0, rasterized=is_large, gid=name, label=label)


def _mark(axes: Axes, x: Values, y: Values, chosen: Sequence[int]) -> None:
    best, others = list(chosen[:1]), list(chosen[1:])
    if others:
        ring: dict[str, Any] = {"facecolor": "none", "edgecolor": ORANGE, "linewidth": 1.4, "zorder": 4}
        axes.scatter(x[others], y[others], s=42, gid="others", label=f"next {len(others)}", **ring)
    if best:
        star(axes, x[best], y[best], gid="chosen", label="chosen")
