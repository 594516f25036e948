"""Figures that only TANS has."""

from typing import Any

import matplotlib
from matplotlib.figure import Figure

from common.report.panel import legend, panel, star
from common.report.style import GRAY, INK, ORANGE, SERIES
from common.report.svg import SETTINGS
from common.report.text import shorten
from tans.report_inputs import SpaceMap

_NAMED = 5
_LABEL = 20


@matplotlib.rc_context(SETTINGS)
def plane(facts: SpaceMap) -> Figure:
    """Networks as dots, datasets as squares with their names, the searched dataset as a star.

    The datasets of the retrieved networks, or else the first ones, are coloured; the others are gray.
    """
    figure, axes = panel(height=4.4)
    first = [int(facts.owners[place]) for place in facts.retrieved] or [*range(len(facts.names))]
    coloured = [*dict.fromkeys(first)][:_NAMED]
    others = [place for place in range(len(facts.names)) if place not in coloured]
    for place in others:
        points = facts.networks[facts.owners == place].numpy()
        axes.scatter(points[:, 0], points[:, 1], s=7, color=GRAY, alpha=0.35, linewidth=0, rasterized=len(points) > 300)
    for color, place in zip(SERIES, coloured, strict=False):
        points = facts.networks[facts.owners == place].numpy()
        label = shorten(facts.names[place], _LABEL)
        axes.scatter(
            points[:, 0], points[:, 1], s=12, color=color, alpha=0.7, linewidth=0, gid=f"networks:{place}", label=label
        )
    squares: dict[str, Any] = {"s": 26, "marker": "s", "facecolor": "none", "edgecolor": INK, "linewidth": 0.9}
    axes.scatter(facts.queries[:, 0].numpy(), facts.queries[:, 1].numpy(), gid="datasets", zorder=3, **squares)
    for place, point in enumerate(facts.queries.tolist()):
        if place in coloured or len(facts.names) <= 2 * _NAMED:
            axes.annotate(
                shorten(facts.names[place], _LABEL), point, xytext=(4, 4), textcoords="offset points", fontsize=7.5
            )
    if len(facts.retrieved):
        ring: dict[str, Any] = {"facecolor": "none", "edgecolor": ORANGE, "linewidth": 1.3, "zorder": 4}
        found = facts.networks[list(facts.retrieved)].numpy()
        axes.scatter(found[:, 0], found[:, 1], s=60, gid="retrieved", label="retrieved", **ring)
    if facts.new_query is not None:
        star(axes, [float(facts.new_query[0])], [float(facts.new_query[1])], gid="query", label="searched")
    axes.set(xlabel="first component", ylabel="second component")
    legend(figure, axes)
    return figure
