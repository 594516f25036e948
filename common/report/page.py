"""One self-contained HTML page: text, tables, commands and figures, without scripts or outside references."""

import base64
import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from common.experiment.files import write_text
from common.report.style import CSS
from common.report.svg import to_svg
from common.report.text import clean

# Enforces in the browser what the tests check: nothing is fetched, nothing is executed.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Fragment:
    """Finished HTML. Whatever else enters a page is plain text and is escaped."""

    html: str


Content = str | Fragment


def inline(content: Content) -> str:
    """HTML of a fragment, or of a text after escaping."""
    return content.html if isinstance(content, Fragment) else html.escape(clean(content), quote=True)


def paragraph(*parts: Content) -> Fragment:
    """Running text; the parts follow one another without a space."""
    return Fragment(f"<p>{''.join(map(inline, parts))}</p>")


def note(*parts: Content) -> Fragment:
    """A remark the reader must not miss, for instance how a figure is not to be read."""
    return Fragment(f'<p class="note">{"".join(map(inline, parts))}</p>')


def definitions(facts: Mapping[str, Content]) -> Fragment:
    """Names with their values, one a line; empty for no facts."""
    items = "".join(f"<div><dt>{inline(name)}</dt><dd>{inline(value)}</dd></div>" for name, value in facts.items())
    return Fragment(f"<dl>{items}</dl>" if items else "")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Content]],
    *,
    caption: str,
    words: Collection[int] = (0,),
    marked: Collection[int] = (),
) -> Fragment:
    """A table whose first column names the rows.

    Args:
        columns: headings.
        rows: cells, as many in each row as there are headings.
        caption: what the table shows; also its name for screen readers.
        words: indices of the columns that hold words; the others hold numbers and are set to the right.
        marked: indices of rows to set off.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    for index, cells in enumerate(rows):
        if len(cells) != len(columns):
            raise ValueError(f"table {caption!r}: row {index} has {len(cells)} cells for {len(columns)} columns")
    sides = ['class="words"' if column in words else 'class="number"' for column in range(len(columns))]
    head = "".join(f'<th scope="col" {side}>{inline(title)}</th>' for title, side in zip(columns, sides, strict=True))
    body = "".join(_table_row(cells, sides, index in marked) for index, cells in enumerate(rows))
    name = inline(caption)
    return Fragment(
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table>'
        f"<caption><span>{name}</span></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _table_row(cells: Sequence[Content], sides: Sequence[str], is_marked: bool) -> str:
    first = f'<th scope="row" {sides[0]}>{inline(cells[0])}</th>'
    others = "".join(f"<td {side}>{inline(cell)}</td>" for cell, side in zip(cells[1:], sides[1:], strict=True))
    start = '<tr class="marked">' if is_marked else "<tr>"
    return f"{start}{first}{others}</tr>"


def command(text: str) -> Fragment:
    """A shell command in a box; one click selects all of it."""
    return Fragment(f'<pre tabindex="0"><code>{inline(text.strip())}</code></pre>')


def code(text: str) -> Fragment:
    """A name from a file or a command inside running text, as an architecture's text form."""
    return Fragment(f"<code>{inline(text)}</code>")


def plot(figure: Figure, *, alt: str, caption: Content) -> Fragment:
    """A figure as inline SVG whose inks follow the page's light or dark colours.

    Args:
        figure: matplotlib figure, drawn in the colours of `common.report.style`.
        alt: what a reader who does not see it has to know.
        caption: what it shows and how to read it.
    """
    return Fragment(f"<figure>{to_svg(figure, clean(alt))}<figcaption>{inline(caption)}</figcaption></figure>")


def image(data: bytes, *, media_type: str, alt: str, is_pixelated: bool = False) -> Fragment:
    """Encoded picture bytes as an embedded image."""
    kind = ' class="pixelated"' if is_pixelated else ""
    encoded = base64.b64encode(data).decode("ascii")
    return Fragment(f'<img{kind} alt="{inline(alt)}" src="data:{media_type};base64,{encoded}">')


def row(*parts: Fragment) -> Fragment:
    """Fragments beside one another where the screen is wide enough, below one another elsewhere."""
    return Fragment(f'<div class="row">{"".join(part.html for part in parts)}</div>')


def section(title: str, *parts: Fragment) -> Fragment:
    """A part of the page under its own heading."""
    return Fragment(f"<section><h2>{inline(title)}</h2>{''.join(part.html for part in parts)}</section>")


def page(title: str, lead: Content, *parts: Fragment) -> str:
    """The whole document.

    Args:
        title: heading and name in the browser's tab.
        lead: the result in a sentence or two.
        parts: sections in reading order.
    """
    name = inline(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{name}</title><style>{CSS}</style></head>'
        f'<body><main><header><h1>{name}</h1><p class="lead">{inline(lead)}</p></header>\n'
        + "\n".join(part.html for part in parts)
        + "\n</main></body></html>\n"
    )


def write_page(path: Path, document: str) -> Path:
    """Write a finished document; a reader sees the old page or the new one, never a half.

    Raises:
        OSError: the folder cannot be written to.
    """
    write_text(path, document)
    return path
