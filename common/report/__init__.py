"""Figures and the self-contained HTML page of a run."""

from common.report.figures import Curve, block_widths, grouped_bars, training_curves, value_spread
from common.report.images import contact_sheet, gallery
from common.report.intervals import coverage, interval_scatter
from common.report.page import (
    Fragment,
    code,
    command,
    definitions,
    note,
    page,
    paragraph,
    plot,
    row,
    section,
    table,
    write_page,
)
from common.report.scatter import cost_scatter, pareto_front, ranking_scatter

__all__ = [
    "Curve",
    "Fragment",
    "block_widths",
    "code",
    "command",
    "contact_sheet",
    "cost_scatter",
    "coverage",
    "definitions",
    "gallery",
    "grouped_bars",
    "interval_scatter",
    "note",
    "page",
    "paragraph",
    "pareto_front",
    "plot",
    "ranking_scatter",
    "row",
    "section",
    "table",
    "training_curves",
    "value_spread",
    "write_page",
]
