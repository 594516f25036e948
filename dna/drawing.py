"""Figures of DNA: the layers of a network from input to output, and the ratings of the paths of every block."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from common.report.panel import legend, name_rows, panel, star
from common.report.style import BLUE, GRAY, GREEN, INK, MUTED, ORANGE
from common.report.svg import SETTINGS
from dna.archs import EXPANSIONS, KERNELS, DnaArch

_COLORS = {3: GREEN, 5: BLUE, 7: ORANGE}
_GAP = 0.9


@matplotlib.rc_context(SETTINGS)
def network_drawing(arch: DnaArch) -> Figure:
    """One bar of output channels for each layer, coloured by kernel; its label says the expansion."""
    layers = [(stage, op, width) for stage, width in enumerate(arch.widths) for op in arch.ops[stage]]
    places = np.array([place + _GAP * stage for place, (stage, _, _) in enumerate(layers)])
    figure, axes = panel(height=1.2 + 0.2 * (len(layers) + len(arch.ops)))
    widths = np.array([width for _, _, width in layers])
    colors = [_COLORS[KERNELS[op]] for _, op, _ in layers]
    axes.barh(places, widths, height=0.82, color=colors, gid="layers")
    for place, (_, op, width) in zip(places, layers, strict=True):
        look: dict[str, Any] = {"va": "center", "fontsize": 8, "color": MUTED}
        axes.text(width + 0.015 * widths.max(), place, f"x{EXPANSIONS[op]}, {KERNELS[op]}x{KERNELS[op]}", **look)
    middles = [places[[stage == wanted for stage, _, _ in layers]].mean() for wanted in range(len(arch.ops))]
    axes.set_yticks(middles, [f"stage {stage}" for stage in range(len(arch.ops))])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel("channels of a layer")
    figure.legend(
        handles=[Patch(color=color, label=f"kernel {kernel}x{kernel}") for kernel, color in _COLORS.items()],
        loc="outside upper center",
        ncols=3,
        frameon=False,
        fontsize=8.5,
    )
    return figure


@matplotlib.rc_context(SETTINGS)
def rating_spread(ratings: Mapping[str, NDArray[np.float64]], chosen: Mapping[str, float]) -> Figure:
    """For each block the range, the middle half and the median of its paths' ratings, and the chosen path's.

    Args:
        ratings: block -> (N,) losses, smaller is better.
        chosen: block -> the rating to point out; may be empty.
    """
    figure, axes = panel(height=1.3 + 0.42 * len(ratings))
    quantiles = np.array([np.quantile(values, (0, 0.25, 0.5, 0.75, 1)) for values in ratings.values()])
    places = np.arange(len(ratings), dtype=float)
    low, first, median, third, high = quantiles.T
    axes.hlines(places, low, high, color=GRAY, linewidth=1.2, gid="range", label="best to worst")
    axes.hlines(places, first, third, color=BLUE, linewidth=8, alpha=0.6, gid="half", label="middle half")
    axes.scatter(median, places, s=34, marker="|", color=INK, linewidth=2, zorder=3, gid="median", label="median")
    rows = [(chosen[name], place) for name, place in zip(ratings, places, strict=True) if name in chosen]
    if rows:
        star(axes, [value for value, _ in rows], [place for _, place in rows], gid="marked", label="chosen")
    axes.grid(False, axis="y")
    name_rows(axes, list(ratings))
    axes.set_xlabel("relative L1 to the teacher's feature")
    legend(figure, axes)
    return figure
