"""Draws of channel counts that grow with depth, for the spaces of free widths."""

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 256  # rows drawn at once, whatever is asked for: a longer sample then begins with the shorter one


@dataclass(frozen=True, kw_only=True)
class RisingWidths:
    """Rows of channel counts, each log-uniform between its bounds, given that they grow with depth.

    The released pools do not tell how they were drawn; the bounds of the spaces are what was observed in them.
    """

    lows: tuple[int, ...]
    highs: tuple[int, ...]
    step: int
    """Counts are multiples of it."""
    is_strict: bool
    """Whether two neighbours must differ."""

    def draw(
        self, num: int, num_stages: int, max_depth: int, generator: torch.Generator
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Rows of widths, and beside each `num_stages` independent uniform depths from 1 to `max_depth`."""
        rows: list[list[int]] = []
        depths: list[list[int]] = []
        while len(rows) < num:
            widths = self._widths(generator)
            drawn = torch.randint(1, max_depth + 1, (_BLOCK, num_stages), generator=generator)
            rises = (widths.diff(dim=1) >= int(self.is_strict)).all(1)
            rows += widths[rises].tolist()
            depths += drawn[rises].tolist()
        return rows[:num], depths[:num]

    def _widths(self, generator: torch.Generator) -> Tensor:  # (_BLOCK, len(lows))
        lows, highs = (torch.tensor(bounds, dtype=torch.float64).log() for bounds in (self.lows, self.highs))
        draws = torch.rand(_BLOCK, len(lows), dtype=torch.float64, generator=generator)
        return ((lows + draws * (highs - lows)).exp() / self.step).round().long() * self.step
