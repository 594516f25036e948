"""Numbers and names as a page prints them: percent and mega appear here and nowhere in code or files."""

import math
import statistics
from collections.abc import Sequence

MISSING = "-"


def clean(text: str) -> str:
    """Make any string storable as UTF-8: undecodable parts of file names and control characters are replaced."""
    storable = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in storable)


def shorten(text: str, limit: int) -> str:
    """Cut a name that would not fit in a figure, at `limit` characters or more than 3."""
    text = " ".join(clean(text).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as percent: 0.7321 -> "73.2 %"; missing or undefined -> "-"."""
    return MISSING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.{digits}f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """A plain number with fixed digits; missing or undefined -> "-"."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def count(value: int) -> str:
    """Three significant digits with a metric prefix: 3_358_786 -> "3.36 M"; below 10,000 the number itself."""
    if abs(value) < 10_000:
        return f"{value:,}"
    exponent = min((len(str(abs(value))) - 1) // 3, 4)
    scaled = value / 1000**exponent
    if abs(scaled) >= 999.5 and exponent < 4:  # 999,999 would print as 1000 k
        exponent, scaled = exponent + 1, scaled / 1000
    digits = max(0, 2 - int(math.log10(abs(scaled))))
    return f"{scaled:.{digits}f} {' kMGT'[exponent]}"


def duration(seconds: float | None) -> str:
    """Seconds for a reader: 0.21 -> "0.21 s", 75 -> "1 min 15 s", 7,500 -> "2 h 5 min"."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def mean_and_std(fractions: Sequence[float]) -> str:
    """Mean and sample standard deviation in percent; one value stands alone, none is "-"."""
    if not fractions:
        return MISSING
    mean = percent(statistics.fmean(fractions))
    return mean if len(fractions) == 1 else f"{mean[:-2]} \N{PLUS-MINUS SIGN} {100 * statistics.stdev(fractions):.1f} %"
