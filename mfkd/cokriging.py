"""Co-kriging of two fidelities: high = ratio * low + rest, with independent Gaussian processes for low and rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfkd.domain import Block, Domain
from mfkd.gaussian_process import Array, GaussianProcess, fit_wellposed

_SHRINKAGE = 1.1  # of the ratio, towards 0
_FEWEST_FOR_RATIO = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class CoKriging:
    """Prediction of accuracies at high fidelity.

    Attributes:
        low: process of the accuracies at low fidelity.
        rest: process of what ratio times the mean of `low` leaves of those at high fidelity.
        ratio: rho in the literature.
    """

    low: GaussianProcess
    rest: GaussianProcess
    ratio: float

    def predict(self, features: ArrayLike) -> tuple[Array, Array]:
        """Posterior means and deviations at points of features (N, D), (N,) each."""
        return self._joined(self.low.predict(features), self.rest.predict(features))

    def over(self, domain: Domain) -> Iterator[Block]:
        """Predictions at all points of a domain, in order."""
        for low, rest in zip(domain.predict(self.low), domain.predict(self.rest), strict=True):
            yield Block(low.first, *self._joined((low.mean, low.std), (rest.mean, rest.std)))

    def _joined(self, low: tuple[Array, Array], rest: tuple[Array, Array]) -> tuple[Array, Array]:
        return self.ratio * low[0] + rest[0], np.hypot(self.ratio * low[1], rest[1])


def fit_cokriging(features: ArrayLike, low: ArrayLike, high_rows: Sequence[int], high: ArrayLike) -> CoKriging:
    """Fit in two steps, which is exact for nested designs: every point of high fidelity also has a low one.

    The ratio is the slope of the high accuracies on the low process's means at the same points, divided by 1.1. It is 1
    for fewer than three high accuracies, and where the low means are all equal, so that no slope exists.

    Args:
        features: (n, D) points evaluated at low fidelity, scaled to deviation 1 over the space.
        low: (n,) their accuracies.
        high_rows: rows of `features` that are also evaluated at high fidelity, each once.
        high: (len(high_rows),) their accuracies.

    Raises:
        ValueError: shapes that do not fit, rows that do not exist or repeat, or values that are not finite.

    Source: Kennedy and O'Hagan 2000; Le Gratiet and Garnier 2014 (recursive form). How the revised MFKD paper fits the
    ratio is not known; the slope and its shrinkage are ours.
    """
    points, accuracies = np.asarray(features, np.float64), np.asarray(high, np.float64)
    rows = np.asarray(high_rows, np.int64)
    if rows.ndim != 1 or accuracies.shape != rows.shape or not rows.size:
        raise ValueError(f"{rows.size} rows and accuracies {accuracies.shape} of high fidelity: one each, at least one")
    if rows.min() < 0 or rows.max() >= len(points) or len(np.unique(rows)) < len(rows):
        raise ValueError(f"rows of high fidelity must be distinct rows of the {len(points)} points of low fidelity")
    process = fit_wellposed(points, low)
    mean = process.predict(points[rows])[0]
    ratio = _ratio(mean, accuracies)
    return CoKriging(low=process, rest=fit_wellposed(points[rows], accuracies - ratio * mean), ratio=ratio)


def _ratio(low_means: Array, high: Array) -> float:
    centred = low_means - low_means.mean()
    spread = float(centred @ centred)
    if len(high) < _FEWEST_FOR_RATIO or spread <= len(high) * np.finfo(np.float64).eps ** 2:
        return 1.0
    return float(centred @ (high - high.mean())) / (_SHRINKAGE * spread)
