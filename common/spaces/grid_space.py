"""What spaces that are full product grids share: index, digits and configuration of an architecture."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic

import torch
from torch import Tensor

from common.spaces.base import Arch
from common.spaces.configuration import complete, nest
from common.spaces.grid import Grid, Level, check_index, check_level


class GridSpace(ABC, Generic[Arch]):
    """A space whose architectures are the points of a grid."""

    default: Arch | None = None
    """Where a configuration takes the values that it does not give from, if anywhere."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Stable identifier: the same name, the same networks under the same indices."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """Axes, sizes, digits and features."""

    @abstractmethod
    def values_of(self, arch: Arch) -> dict[str, Level]:
        """Flat configuration of any network of this kind, in the space or not."""

    @abstractmethod
    def arch_of(self, values: Mapping[str, Level]) -> Arch:
        """The inverse of `values_of`."""

    @abstractmethod
    def format(self, arch: Arch) -> str:
        """The text form."""

    def size(self) -> int:
        """Number of architectures."""
        return self.grid.size()

    def arch(self, index: int) -> Arch:
        """The architecture of an index.

        Raises:
            ValueError: the index is not one of 0 to size() - 1.
        """
        return self.archs(self.grid.digits([check_index(index, self.size(), self.name)]))[0]

    def archs(self, digits: Tensor) -> list[Arch]:
        """Architectures of rows of digits, (N, axes) integers."""
        return [self.arch_of(self.grid.values(row)) for row in digits.tolist()]

    def index(self, arch: Arch) -> int:
        """The index of an architecture; inverts `arch`.

        Raises:
            ValueError: the architecture lies outside the space; the message says why and what is allowed.
        """
        return int(self.grid.indices([self.digits(arch)])[0])

    def digits(self, arch: Arch) -> tuple[int, ...]:
        """Positions of the architecture's values on the axes.

        Raises:
            ValueError: the architecture lies outside the space; the message says why and what is allowed.
        """
        try:
            return self.grid.locate(self.values_of(arch))
        except ValueError as error:
            raise ValueError(f"architecture {self.format(arch)!r}: {error}") from None

    def validate(self, arch: Arch) -> Arch:
        """Return the architecture if it lies in the space.

        Raises:
            ValueError: it does not; the message says why and what is allowed.
        """
        self.digits(arch)
        return arch

    def sample(self, num: int, generator: torch.Generator) -> list[Arch]:
        """Draw uniformly with replacement; a longer sample begins with the shorter one of the same seed."""
        return self.archs(self.grid.digits(torch.randint(0, self.size(), (num,), generator=generator)))

    def encode(self, archs: Sequence[Arch]) -> Tensor:
        """Scaled features, (len(archs), axes) float64: every column has mean 0 and deviation 1 over the space.

        Raises:
            ValueError: an architecture lies outside the space.
        """
        return self.grid.features([self.digits(arch) for arch in archs])

    def configuration(self, arch: Arch) -> dict[str, dict[str, object]]:
        """Nested plain values, like `{"layer_0": {"channels": 16, "repetitions": 1}, ...}`."""
        return nest(self.values_of(arch))

    def from_configuration(self, configuration: Mapping[str, object]) -> Arch:
        """The network of a configuration, in the space or not; inverts `configuration`.

        Values that are not given are those of `default`, where there is one.

        Raises:
            ValueError: a key is unknown, missing or not a number.
        """
        default = None if self.default is None else self.values_of(self.default)
        values = complete(configuration, self.grid.keys, default)
        return self.arch_of({key: check_level(key, value) for key, value in values.items()})
