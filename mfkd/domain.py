"""Finite sets of numbered points that processes predict everywhere, block by block.

A full product of axes is predicted from tables of its axes, without a row of features for each of its points: the
kernel is a product over the dimensions, so correlations with the data factor over two halves of the axes, and a block
of predictions is a few matrix products.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfkd.gaussian_process import Array, GaussianProcess, Kernel

_BLOCK_POINTS = 2**16  # 512 KiB for each array of a block, which stays in a processor's cache
_LARGEST_PRODUCT = 10**10


@dataclass(frozen=True, eq=False)
class Block:
    """Predictions for consecutive points.

    Attributes:
        first: number of the first of them.
        mean: (N,).
        std: (N,), zeros where deviations were not asked for.
    """

    first: int
    mean: Array
    std: Array


class Domain(Protocol):
    """Points 0 to size - 1, each with D features."""

    @property
    def size(self) -> int:
        """Number of points."""
        ...

    def features(self, points: Sequence[int]) -> Array:
        """Features of some points, (N, D); ValueError for a point outside."""
        ...

    def predict(self, process: GaussianProcess, *, with_std: bool = True) -> Iterator[Block]:
        """Predictions of a process at all points in order; the cuts depend on the domain alone.

        Args:
            process: of the same features.
            with_std: deviations cost as many products as there are observations, means one.
        """
        ...


class PoolDomain:
    """Points with a row of features each.

    Args:
        features: (N, D), scaled to deviation 1 over the pool.

    Raises:
        ValueError: no rows or columns, or values that are not finite.
    """

    def __init__(self, features: ArrayLike) -> None:
        self._features = np.asarray(features, np.float64).copy()
        if self._features.ndim != 2 or not self._features.size or not np.isfinite(self._features).all():
            raise ValueError(f"features of a pool have the shape {self._features.shape}; finite (N, D) are needed")

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self._features)

    def features(self, points: Sequence[int]) -> Array:
        """Features of some points, (len(points), D).

        Raises:
            ValueError: a point outside the pool.
        """
        return self._features[_checked(points, self.size)]

    def predict(self, process: GaussianProcess, *, with_std: bool = True) -> Iterator[Block]:
        """Predictions of a process at all points, in order."""
        for first in range(0, self.size, _BLOCK_POINTS):
            mean, std = process.predict(self._features[first : first + _BLOCK_POINTS])
            yield Block(first, mean, std if with_std else np.zeros_like(mean))


class ProductDomain:
    """All combinations of the levels of some axes, numbered in mixed radix, the last axis fastest.

    Args:
        levels: of each axis, slowest first: (levels,) features, scaled to deviation 1 over the axis.

    Raises:
        ValueError: no axes, an axis without levels, levels that are not finite, or more than 10**10 points, of which
            one prediction would take minutes.
    """

    def __init__(self, levels: Sequence[ArrayLike]) -> None:
        self._levels = tuple(np.asarray(axis, np.float64).copy() for axis in levels)
        if not self._levels or any(x.ndim != 1 or not x.size or not np.isfinite(x).all() for x in self._levels):
            raise ValueError("a product needs axes, each with one or more finite levels")
        self._sizes = tuple(len(axis) for axis in self._levels)
        if self.size > _LARGEST_PRODUCT:
            raise ValueError(
                f"the space has {self.size} points, too many to predict each of them (10**10): fix some of its options"
            )

    @property
    def size(self) -> int:
        """Number of points."""
        return prod(self._sizes)

    def features(self, points: Sequence[int]) -> Array:
        """Features of some points, (len(points), axes).

        Raises:
            ValueError: a point outside the product.
        """
        digits = np.unravel_index(_checked(points, self.size), self._sizes)
        return np.stack([axis[column] for axis, column in zip(self._levels, digits, strict=True)], 1)

    def predict(self, process: GaussianProcess, *, with_std: bool = True) -> Iterator[Block]:
        """Predictions of a process at all points, in order.

        With correlations k(x, x_i) = slow[a, i] * fast[b, i] of x = (a, b), means are (slow * weights) @ fast.T, and
        every row of the whitening matrix gives one more such product, whose squares add up to what the data explain.
        """
        if process.features.shape[1] != len(self._levels):
            raise ValueError(
                f"a process of {process.features.shape[1]} features cannot predict {len(self._levels)} axes"
            )
        cut = self._cut()
        slow = self._correlations(process, range(cut))
        fast = np.ascontiguousarray(self._correlations(process, range(cut, len(self._levels))).T)  # (n, fast points)
        num_rows = max(1, _BLOCK_POINTS // fast.shape[1])
        for row in range(0, len(slow), num_rows):
            here, first = slow[row : row + num_rows], row * fast.shape[1]
            mean = (here * process.weights) @ fast
            std = self._deviations(process, here, fast) if with_std else np.zeros_like(mean)
            yield Block(first, process.mean_of(mean).ravel(), std.ravel())

    def _deviations(self, process: GaussianProcess, slow: Array, fast: Array) -> Array:
        shape = len(slow), fast.shape[1]
        explained, part = np.zeros(shape), np.empty(shape)
        for used, row in enumerate(process.whitening, 1):  # lower triangular: zero beyond `used`
            np.matmul(slow[:, :used] * row[:used], fast[:used], out=part)
            explained += np.square(part, out=part)
        return process.deviation_of(explained)

    def _cut(self) -> int:
        """Number of slow axes that makes the two tables smallest."""
        return min(range(len(self._sizes) + 1), key=lambda cut: prod(self._sizes[:cut]) + prod(self._sizes[cut:]))

    def _correlations(self, process: GaussianProcess, axes: range) -> Array:
        """Correlations with the data in some dimensions, (product of their levels, n)."""
        table = np.ones((1, len(process.features)))
        for axis in axes:
            one = _axis_correlation(process.kernel, self._levels[axis], process.features[:, axis])
            table = (table[:, None, :] * one).reshape(-1, table.shape[1])
        return table


def predict_everywhere(domain: Domain, process: GaussianProcess) -> tuple[Array, Array]:
    """Means and deviations at all points of a domain, (size,) each: 16 bytes a point."""
    mean, std = np.empty(domain.size), np.empty(domain.size)
    for block in domain.predict(process):
        here = slice(block.first, block.first + len(block.mean))
        mean[here], std[here] = block.mean, block.std
    return mean, std


def _axis_correlation(kernel: Kernel, levels: Array, observed: Array) -> Array:  # (levels, n)
    return kernel.correlation(np.square(levels[:, None] - observed))


def _checked(points: Sequence[int], size: int) -> NDArray[np.int64]:
    """Points as an array of indices.

    Raises:
        ValueError: something else than integers in [0, size).
    """
    numbers = np.asarray(points)
    if numbers.ndim != 1 or (numbers.size and not np.issubdtype(numbers.dtype, np.integer)):
        raise ValueError(f"points {points!r}: a sequence of integers is needed")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= size):
        raise ValueError(f"point {numbers.min() if numbers.min() < 0 else numbers.max()}: 0 to {size - 1} are points")
    return numbers.astype(np.int64)
