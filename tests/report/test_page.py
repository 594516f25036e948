"""The page: well-formed, escaped, self-contained, readable in light and dark."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from common.report import (
    Curve,
    Fragment,
    code,
    command,
    contact_sheet,
    definitions,
    gallery,
    note,
    page,
    paragraph,
    plot,
    row,
    section,
    table,
    training_curves,
    write_page,
)
from common.report import style as colors

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Holds the open tags, and collects the attributes and texts of the document."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.errors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def outline(document: str) -> Outline:
    parser = Outline()
    parser.feed(document)
    parser.close()
    return parser


def curve_figure() -> Fragment:
    figure = training_curves({"one": [Curve([0, 1], [0.1, 0.4]), Curve([0, 1], [0.2, 0.5])]}, value_label="accuracy")
    return plot(figure, alt="a curve that rises", caption="A curve.")


def whole_page() -> str:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    return page(
        "A title",
        "A lead.",
        section("Facts", definitions({"Name": "value", "Code": code("18-32_36")}), note("remember")),
        section("Table", table(["name", "number"], [["a", "1"], ["b", "2"]], caption="two", marked=(1,))),
        section("Pictures", contact_sheet(images, torch.tensor([0, 1] * 3), ["x", "y"]), gallery(images[:1], ["one"])),
        section("Figures", row(curve_figure(), curve_figure())),
        section("Repeat", paragraph("so:"), command("python -m dass search --data 'my birds' && echo done")),
    )


def test_every_tag_of_a_page_is_closed_in_order() -> None:
    found = outline(whole_page())
    assert found.errors == []
    assert found.open == []


def test_text_is_escaped_wherever_it_enters() -> None:
    evil = '<script>alert("&")</script>'
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    figure = training_curves({evil: [Curve([0, 1], [0.0, 1.0])]}, value_label=evil)
    parts = [
        paragraph(evil),
        note(evil),
        definitions({evil: evil}),
        table([evil], [[evil]], caption=evil),
        command(evil),
        code(evil),
        contact_sheet(images, torch.tensor([0]), [evil]),
        gallery(images, [evil]),
        plot(figure, alt=evil, caption=evil),
    ]
    document = page(evil, evil, section(evil, *parts))
    found = outline(document)
    assert "<script" not in document
    assert found.errors == []
    assert found.texts.count(evil) >= 12
    assert ("svg", "aria-label", evil) in found.attributes


def test_a_page_refers_to_nothing_outside_itself() -> None:
    document = whole_page()
    references = [
        value for _, name, value in outline(document).attributes if name in {"src", "href", "xlink:href", "srcset"}
    ]
    assert references
    assert all(value and value.startswith(("data:image/", "#")) for value in references)
    assert "http" not in document.replace("http-equiv", "")
    assert not re.search(r"@import|url\((?!#)", document)
    assert "default-src 'none'" in document


def test_ids_inside_a_page_are_referred_to_and_differ_between_figures() -> None:
    other = training_curves({"two": [Curve([0, 1], [0.3, 0.4])]}, value_label="loss")
    found = outline(page("t", "l", curve_figure(), plot(other, alt="other", caption="")))
    ids = [value for _, name, value in found.attributes if name == "id"]
    targets = {value[1:] for _, name, value in found.attributes if name == "href" and value}
    targets |= {target for _, _, value in found.attributes for target in re.findall(r"url\(#([^)]+)\)", value or "")}
    assert len(ids) == len(set(ids)) > 1
    assert targets == set(ids)


def test_figures_take_their_inks_from_the_page_and_no_fixed_black() -> None:
    drawing = curve_figure().html
    assert "var(--ink)" in drawing
    assert "var(--rule)" in drawing
    assert not re.search(r"(fill|stroke): ?(#000000|black)", drawing)


def test_the_same_page_is_the_same_bytes() -> None:
    torch.manual_seed(0)
    first = whole_page()
    torch.manual_seed(0)
    assert whole_page() == first


def test_every_image_and_figure_has_words_for_those_who_do_not_see_it() -> None:
    found = outline(whole_page())
    attributes = found.attributes
    assert sum(tag == "img" and name == "alt" for tag, name, _ in attributes) == 7
    assert sum(tag == "svg" and name == "aria-label" and bool(value) for tag, name, value in attributes) == 2
    assert any(name == "aria-label" and value == "3 sample images of class x" for _, name, value in attributes)
    assert {value for tag, name, value in attributes if tag == "th" and name == "scope"} == {"col", "row"}


def test_a_table_marks_its_row_and_sets_numbers_to_the_right() -> None:
    made = table(["task", "role", "n"], [["a", "x", "1"], ["b", "y", "2"]], caption="c", words=(0, 1), marked=(1,)).html
    assert made.count('class="marked"') == 1
    assert made.index('class="marked"') < made.index(">b<")
    assert made.index(">a<") < made.index('class="marked"')
    assert '<td class="number">2</td>' in made
    assert '<td class="words">y</td>' in made


def test_a_row_of_another_length_than_the_headings_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'c': row 1 has 1 cells for 2 columns"):
        table(["a", "b"], [["1", "2"], ["3"]], caption="c")


def test_names_that_are_no_valid_text_can_still_be_written(tmp_path: Path) -> None:
    path = write_page(tmp_path / "run" / "report.html", page("bad \udcff name", "bell \x07"))
    text = path.read_text(encoding="utf-8")
    assert "bad ? name" in text
    assert "bell \ufffd" in text


@pytest.mark.parametrize("paper", [colors.PAPER, colors.DARK_PAPER])
@pytest.mark.parametrize("color", colors.SERIES)
def test_colors_of_data_stand_out_on_light_and_dark_paper(color: str, paper: str) -> None:
    assert contrast(color, paper) >= 3


def test_text_colors_reach_the_contrast_for_reading_in_both_schemes() -> None:
    schemes = re.findall(r":root\{([^}]*)\}", colors.CSS)[:2]
    for scheme in schemes:
        variables = dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", scheme))
        assert len(variables) == 7
        for ink in ("ink", "muted"):
            for paper in ("paper", "soft", "mark"):
                assert contrast(variables[ink], variables[paper]) >= 4.5


def contrast(first: str, second: str) -> float:
    """Contrast ratio of the Web Content Accessibility Guidelines, 1 to 21."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
