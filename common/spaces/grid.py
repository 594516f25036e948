"""Full product grids: a few levels on every axis, index arithmetic instead of enumeration.

Index, digits and configuration of a point are three names of the same thing: the digits are the positions of its levels
on the axes, the index is the number they spell in mixed radix, the last axis fastest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.spaces.configuration import flatten

Level = bool | int | float
Options = Level | tuple[Level, ...]
"""One value is a constant of the space; a tuple, even of one value, is an axis."""
_LARGEST_SIZE = 2**63 - 1  # indices are int64
_LARGEST_DRAW = 10**8  # the published draw shuffles one int64 for every point


@dataclass(frozen=True)
class Axis:
    """One dimension of a grid.

    Attributes:
        key: dotted place of the value in a configuration, like `layer_0.channels`.
        levels: its options; the position of one is its digit.

    Raises:
        ValueError: no levels, equal levels, or a level that is no finite number; the message names the key.
    """

    key: str
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        """Check the levels."""
        if not self.levels:
            raise ValueError(f"{self.key} has no options; give at least one")
        for level in self.levels:
            check_level(self.key, level)
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"{self.key} has equal options {self.levels}; give each once")

    @property
    def features(self) -> Tensor:
        """The levels as numbers, (levels,) float64; False and True are 0 and 1."""
        return torch.tensor([float(level) for level in self.levels], dtype=torch.float64)

    @property
    def scaled(self) -> Tensor:
        """Features less their mean, over their population deviation (1 on an axis of one level), (levels,) float64.

        In a full product every level is equally frequent, so mean and deviation are those of the whole space.
        """
        features = self.features
        deviation = float(features.std(correction=0))
        return (features - features.mean()) / (deviation or 1.0)


@dataclass(frozen=True)
class Grid:
    """The product of some axes, beside constants that all points share.

    Attributes:
        axes: dimensions, slowest first.
        constants: (key, value) of what is fixed.

    Raises:
        ValueError: two values under one key, or more points than an int64 can number.
    """

    axes: tuple[Axis, ...]
    constants: tuple[tuple[str, Level], ...] = ()

    def __post_init__(self) -> None:
        """Check keys and size."""
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"a key occurs twice among {', '.join(self.keys)}")
        if self.size() > _LARGEST_SIZE:
            raise ValueError(f"the space has more points than an index can number (2**63): fix some of {self.keys}")

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all values: of the axes in their order, then of the constants."""
        return tuple(axis.key for axis in self.axes) + tuple(key for key, _ in self.constants)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Levels of each axis."""
        return tuple(len(axis.levels) for axis in self.axes)

    @property
    def scaled_levels(self) -> tuple[Tensor, ...]:
        """Scaled levels of each axis: all that is needed to compute with the whole product."""
        return tuple(axis.scaled for axis in self.axes)

    def size(self) -> int:
        """Number of points."""
        return math.prod(self.sizes)

    def digits(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Digits of points.

        Args:
            indices: (N,) integers, 0 to size() - 1.

        Returns:
            (N, axes) int64.

        Raises:
            ValueError: an index outside, or not an integer.
        """
        rest = _integers(indices, (), "indices")
        outside = rest[(rest < 0) | (rest >= self.size())]
        if len(outside):
            raise ValueError(f"index {int(outside[0])}: 0 to {self.size() - 1} are points of the space")
        columns = []
        for size in reversed(self.sizes):
            columns.append(rest % size)
            rest = rest // size
        return torch.stack(columns[::-1], 1) if columns else rest.new_zeros((len(rest), 0))

    def indices(self, digits: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Indices of points; inverts `digits`.

        Args:
            digits: (N, axes) integers.

        Returns:
            (N,) int64.

        Raises:
            ValueError: another number of digits, or a digit beyond its axis.
        """
        digits = self._checked(digits)
        total = digits.new_zeros(len(digits))
        for column, size in zip(digits.unbind(1), self.sizes, strict=True):
            total = total * size + column
        return total

    def features(self, digits: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Scaled features of points, (N, axes) float64: every column has mean 0 and deviation 1 over the space."""
        digits = self._checked(digits)
        columns = [axis.scaled[column] for axis, column in zip(self.axes, digits.unbind(1), strict=True)]
        return torch.stack(columns, 1) if columns else torch.zeros((len(digits), 0), dtype=torch.float64)

    def values(self, digits: Sequence[int]) -> dict[str, Level]:
        """Flat configuration of one point: key to value, constants included.

        Raises:
            ValueError: another number of digits, or a digit beyond its axis.
        """
        if len(digits) != len(self.axes) or not all(0 <= d < size for d, size in zip(digits, self.sizes, strict=False)):
            raise ValueError(f"digits {tuple(digits)}: one below each of {self.sizes} is needed")
        return dict(self.constants) | {axis.key: axis.levels[d] for axis, d in zip(self.axes, digits, strict=True)}

    def locate(self, values: Mapping[str, Level]) -> tuple[int, ...]:
        """Digits of a flat configuration; inverts `values`.

        Raises:
            ValueError: a value that is missing, unknown or not among the options; the message names the key.
        """
        allowed = {axis.key: axis.levels for axis in self.axes} | {key: (value,) for key, value in self.constants}
        for key in (*allowed, *values):
            if key not in allowed:
                raise ValueError(f"{key} is unknown; known are {', '.join(allowed)}")
            if key not in values:
                raise ValueError(f"{key} is missing; allowed are {_listed(allowed[key])}")
            if values[key] not in allowed[key]:
                raise ValueError(f"{key} is {values[key]!r}; allowed are {_listed(allowed[key])}")
        return tuple(axis.levels.index(values[axis.key]) for axis in self.axes)

    def _checked(self, digits: Tensor | Sequence[Sequence[int]]) -> Tensor:
        rows = _integers(digits, (len(self.axes),), "digits")
        sizes = torch.tensor(self.sizes, dtype=torch.int64, device=rows.device)
        outside = ((rows < 0) | (rows >= sizes)).nonzero()
        if len(outside):
            row, column = outside[0].tolist()
            axis = self.axes[column]
            raise ValueError(f"digit {int(rows[row, column])} of {axis.key}: 0 to {len(axis.levels) - 1} are allowed")
        return rows


def grid_of(options: Mapping[str, object]) -> Grid:
    """The grid of nested options: a list or tuple is an axis, any other value a constant.

    The axes are in the order of `flatten`, so that indices and digits are the published ones.

    Raises:
        ValueError: a value that is no number; the message names the key.

    Source: MFKD, released code for Vega.
    """
    axes, constants = [], []
    for key, value in flatten(options).items():
        if isinstance(value, list | tuple):
            axes.append(Axis(key, tuple(value)))
        else:
            constants.append((key, check_level(key, value)))
    return Grid(tuple(axes), tuple(constants))


def draw_indices(size: int, num: int, seed: int) -> Tensor:
    """Distinct indices, uniformly: those that the released code draws from the same seed.

    Args:
        size: number of points, at most 10**8 (8 bytes are shuffled for each).
        num: how many, at most `size`.
        seed: of the legacy NumPy generator.

    Returns:
        (num,) int64.

    Raises:
        ValueError: more asked for than there are, or too many points to shuffle.

    Source: MFKD1, released code for Vega.
    """
    if size > _LARGEST_DRAW:
        raise ValueError(f"the published draw shuffles all {size} points; above {_LARGEST_DRAW} use the space's sample")
    if not 0 <= num <= size:
        raise ValueError(f"{num} distinct points were asked for and there are {size}")
    return torch.from_numpy(np.random.RandomState(seed).choice(size, num, replace=False))


def check_index(index: int, size: int, name: str) -> int:
    """Return the index if it is one of a space of `size` points.

    Raises:
        ValueError: it is not.
    """
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < size:
        raise ValueError(f"index {index!r}: 0 to {size - 1} are architectures of {name}")
    return index


def check_level(key: str, level: object) -> Level:
    """Return the value if it is a number, below 1e15 in size.

    Raises:
        ValueError: it is not; the message names the key.
    """
    if not isinstance(level, bool | int | float) or not abs(level) < 1e15:
        raise ValueError(f"{key} has the option {level!r}, which is not a number")
    return level


def _integers(values: Tensor | Sequence[int] | Sequence[Sequence[int]], shape: tuple[int, ...], what: str) -> Tensor:
    """The values as an int64 tensor (N, *shape)."""
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:  # text, ragged rows, beyond int64
        raise ValueError(f"{what} are no integers: {error}") from None
    if tensor.numel() == 0:
        return torch.zeros((len(tensor), *shape), dtype=torch.int64, device=tensor.device)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"{what} of type {tensor.dtype}; integers are needed")
    if tensor.ndim != 1 + len(shape) or tensor.shape[1:] != shape:
        raise ValueError(f"{what} of shape {tuple(tensor.shape)}; {('N', *shape)} is needed".replace("'", ""))
    return tensor.to(torch.int64)


def _listed(levels: tuple[Level, ...]) -> str:
    return ", ".join(map(str, levels))
