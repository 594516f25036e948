"""Numbers as a page prints them."""

import pytest

from common.report.text import clean, count, decimal, duration, mean_and_std, percent, shorten


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0 k"),
        (823_224, "823 k"),
        (999_949, "1.00 M"),
        (3_358_786, "3.36 M"),
        (415_762_432, "416 M"),
        (1_456_875_520, "1.46 G"),
    ],
)
def test_counts_have_three_digits_and_a_prefix(value: int, text: str) -> None:
    assert count(value) == text


def test_fractions_are_printed_as_percent_and_missing_ones_as_a_dash() -> None:
    assert [percent(0.7321), percent(0.5, 0), percent(None), percent(float("nan"))] == ["73.2 %", "50 %", "-", "-"]
    assert [decimal(0.12345), decimal(None), decimal(float("nan"))] == ["0.123", "-", "-"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.174, "0.17 s"),
        (23.1, "23 s"),
        (59.7, "1 min 0 s"),
        (75, "1 min 15 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_carry_to_the_next_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_spread_over_seeds_is_the_sample_standard_deviation() -> None:
    assert mean_and_std([0.70, 0.72, 0.74]) == "72.0 \N{PLUS-MINUS SIGN} 2.0 %"
    assert mean_and_std([0.7]) == "70.0 %"
    assert mean_and_std([]) == "-"


def test_long_names_are_cut_and_line_breaks_flattened() -> None:
    assert shorten("a" * 30, 10) == "aaaaaaa..."
    assert shorten("two\nlines", 20) == "two lines"


def test_what_utf_8_cannot_hold_is_replaced() -> None:
    assert clean("\udcff\x00ok\n") == "?\ufffdok\n"
