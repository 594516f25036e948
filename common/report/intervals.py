"""Predictions with intervals against what was measured afterwards."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from common.report.panel import legend, panel, percent_axis
from common.report.style import BLUE, MUTED
from common.report.svg import SETTINGS

NORMAL_95 = 1.96
"""Deviations on either side of the mean that hold 95 % of a normal distribution."""


@matplotlib.rc_context(SETTINGS)
def interval_scatter(predicted: ArrayLike, std: ArrayLike, measured: ArrayLike) -> Figure:
    """Predicted accuracies with 95 % intervals against measured ones, and the line where both are equal.

    Args:
        predicted: (N,) means.
        std: (N,) their deviations, 0 or more.
        measured: (N,) accuracies in [0, 1].

    Raises:
        ValueError: no points, lengths that differ, values that are not finite, or a negative deviation.
    """
    mean, deviation, accuracy = (np.asarray(values, dtype=np.float64) for values in (predicted, std, measured))
    if not (mean.shape == deviation.shape == accuracy.shape and mean.ndim == 1 and len(mean)):
        raise ValueError(f"intervals: shapes {mean.shape}, {deviation.shape}, {accuracy.shape}; give three vectors")
    if not np.isfinite([mean, deviation, accuracy]).all() or (deviation < 0).any():
        raise ValueError("intervals: a value is NaN or infinite, or a deviation negative")
    figure, axes = panel()
    half = NORMAL_95 * deviation
    axes.errorbar(accuracy, mean, yerr=half, fmt="none", ecolor=BLUE, alpha=0.4, elinewidth=1.4, label="95 % interval")
    axes.scatter(accuracy, mean, s=20, color=BLUE, linewidth=0, zorder=3, gid="predicted", label="prediction")
    _diagonal(axes, np.concatenate([accuracy, mean]))
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    axes.set(xlabel="measured accuracy", ylabel="predicted accuracy")
    legend(figure, axes)
    return figure


def coverage(predicted: ArrayLike, std: ArrayLike, measured: ArrayLike) -> float:
    """Share of measured values inside the 95 % intervals of their predictions."""
    mean, deviation, value = (np.asarray(values, dtype=np.float64) for values in (predicted, std, measured))
    return float((np.abs(value - mean) <= NORMAL_95 * deviation).mean())


def _diagonal(axes: Axes, values: np.ndarray) -> None:
    low, high = float(values.min()), float(values.max())
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle="--", gid="equal", label="equal")
