"""Which point of a domain to take: the largest sum of posterior mean and a multiple of the deviation."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from mfkd.domain import Block

_ROUNDING = 8 * np.finfo(np.float64).eps  # of scores around 1


@dataclass(frozen=True)
class Choice:
    """A point and what was predicted of it; no measurement.

    Attributes:
        point: its number.
        mean: predicted accuracy.
        std: deviation of the prediction.
    """

    point: int
    mean: float
    std: float


def choose(
    blocks: Iterable[Block], kappa: float, random: np.random.Generator | None, seen: Collection[int] = ()
) -> Choice:
    """The point with the largest mean + kappa * std among those not seen.

    Takes the memory of one block, whatever the size of the domain.

    Args:
        blocks: predictions for all points.
        kappa: 0 for the best mean, above 0 for exploration, below for caution.
        random: draws one of several scores that are equal but for rounding; None takes the lowest number of those
            equal to the last bit, as the released code does, and so explores in the order of numbers where nothing is
            known.
        seen: points that may not be chosen.

    Raises:
        ValueError: every point has been seen.
        RuntimeError: a score is not a number.

    Source: Trofimov et al., released code: kappa 0.5 in MFKD2.
    """
    taken = np.sort(np.fromiter(seen, np.int64, len(seen)))
    tolerance = _ROUNDING if random is not None else 0.0
    best, num_equal, chosen = -np.inf, 0, None
    for block in blocks:
        scores = block.mean + kappa * block.std
        low, high = np.searchsorted(taken, [block.first, block.first + len(scores)])
        scores[taken[low:high] - block.first] = -np.inf
        top = float(scores.max())
        if np.isnan(top):
            raise RuntimeError("a predicted accuracy is not a number: the process was fitted to damaged values")
        if top - tolerance > best:
            best, num_equal = top, 0
        equal = np.flatnonzero(scores >= best - tolerance) if top > -np.inf else np.empty(0, np.int64)
        num_equal += len(equal)
        row = _drawn(len(equal), num_equal, random)
        if row is not None:
            place = int(equal[row])
            chosen = Choice(block.first + place, float(block.mean[place]), float(block.std[place]))
    if chosen is None:
        raise ValueError(f"all {len(taken)} points have been evaluated: nothing is left to propose, lower max_samples")
    return chosen


def _drawn(num_new: int, num_all: int, random: np.random.Generator | None) -> int | None:
    """Which of the new equals replaces the one kept so far, if any; in the end each of all is as likely."""
    if random is None:
        return 0 if 0 < num_new == num_all else None
    if not num_new or random.integers(num_all) >= num_new:
        return None
    return int(random.integers(num_new))
