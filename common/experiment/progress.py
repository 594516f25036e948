"""Progress bars for people; silent in files and pipes."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def track(iterable: Iterable[Any] | None = None, *, total: int | None = None, description: str = "") -> Any:
    """Progress bar on stderr with the time left.

    Args:
        iterable: what to go through; None for a bar that is moved by its `update`.
        total: number of items where the iterable does not know it.
        description: a few words in front of the bar.

    Returns:
        A `tqdm` bar, disabled when stderr is no terminal.
    """
    silent = not sys.stderr.isatty()
    return tqdm(iterable, total=total, desc=description, file=sys.stderr, disable=silent, dynamic_ncols=True)
