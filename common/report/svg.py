"""A matplotlib figure as SVG that can stand inside an HTML page."""

import hashlib
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from common.report.style import INK, MUTED, RULE, VARIABLES

# Text stays text (searchable, small), `$` in a dataset's name is no formula, and equal figures give equal bytes.
SETTINGS: dict[Any, Any] = {  # the key type of matplotlib differs between its versions
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.unicode_minus": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
REFERENCE = re.compile(r"""(?:url\(|href=")#([^)"]+)""")
RASTER_DPI = 160
"""Resolution of the point clouds that are embedded as pixels."""


def to_svg(figure: Figure, alt: str) -> str:
    """Draw a figure as one `<svg>` element.

    Ids that are referred to are made unique by a digest of the drawing, colours of `VARIABLES` become CSS variables,
    and namespaces, metadata and the fixed size are dropped: HTML needs none of them and the page scales the figure.

    Args:
        figure: the figure.
        alt: text read out in place of the drawing.
    """
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, dpi=RASTER_DPI, metadata=nothing)
    data = buffer.getvalue()
    prefix = "f" + hashlib.sha256(data).hexdigest()[:8]
    targets = set(REFERENCE.findall(data.decode("utf-8")))
    root = ET.fromstring(data)
    for element in root.iter():
        _adapt(element, prefix, targets)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "plot", "role": "img", "aria-label": alt}
    return ET.tostring(root, encoding="unicode")


def _adapt(element: ET.Element, prefix: str, targets: Collection[str]) -> None:
    """Rewrite the names and attributes of one element; only ids that something refers to stay."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    if "id" in attributes:
        name = attributes.pop("id")
        attributes |= {"id": f"{prefix}-{name}"} if name in targets else {}
    if attributes.get("href", "").startswith("#"):
        attributes["href"] = f"#{prefix}-{attributes['href'][1:]}"
    for name in {"style", "clip-path", "fill", "stroke"} & attributes.keys():
        value = attributes[name].replace("url(#", f"url(#{prefix}-")
        attributes[name] = re.sub("#[0-9a-f]{6}", lambda match: VARIABLES.get(match[0], match[0]), value)
    element.attrib.clear()
    element.attrib.update(attributes)
