"""A space of a fixed list of architectures, such as the random pools of MFKD's first version."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor, nn

from common.experiment.config import digest
from common.spaces.base import Arch, Cost, SearchSpace
from common.spaces.grid import check_index
from common.spaces.mobilenet_v2 import MobileNetV2Arch
from common.spaces.mobilenet_v2_free import FreeMobileNetV2Space
from common.spaces.shufflenet_v2 import ShuffleNetV2Arch, ShuffleNetV2Space

_COLUMNS = ["space", "arch", "channels", "repetitions"]


@dataclass(frozen=True, kw_only=True)
class Pool(Generic[Arch]):
    """Some architectures of a family, known by their place in the list.

    Raises:
        ValueError: no architectures, an architecture twice, or one that the family refuses.
    """

    family: SearchSpace[Arch]
    """Texts, features, networks and costs."""
    members: tuple[Arch, ...]
    """The architectures; the index of one is its place."""

    def __post_init__(self) -> None:
        """Check the members."""
        if not self.members:
            raise ValueError(f"a pool of {self.family.name} without architectures; give at least one")
        if len(self._places) < len(self.members):
            raise ValueError(f"a pool of {self.family.name} has an architecture twice; give each once")
        self.family.encode(self.members)  # which refuses what is not of the family

    @property
    def name(self) -> str:
        """Such as `mobilenet_v2_free-s1-pool100-<digest of the members>`: the same name, the same members."""
        texts = [self.family.format(arch) for arch in self.members]
        return f"{self.family.name}-pool{len(self.members)}-{digest({'members': texts})}"

    @cached_property
    def features(self) -> Tensor:
        """The family's features of all members, each column scaled to mean 0 and deviation 1 over the pool.

        (members, D) float64; a constant column is 0.
        """
        raw = self.family.encode(self.members).double()
        deviation = raw.std(0, correction=0)
        return (raw - raw.mean(0)) / torch.where(deviation > 0, deviation, 1)

    @cached_property
    def _places(self) -> dict[Arch, int]:
        return {arch: place for place, arch in enumerate(self.members)}

    def size(self) -> int:
        """Number of architectures."""
        return len(self.members)

    def arch(self, index: int) -> Arch:
        """The architecture of an index.

        Raises:
            ValueError: the index is not one of 0 to size() - 1.
        """
        return self.members[check_index(index, self.size(), self.name)]

    def index(self, arch: Arch) -> int:
        """The index of an architecture; inverts `arch`.

        Raises:
            ValueError: the architecture is not a member.
        """
        if arch not in self._places:
            raise ValueError(
                f"architecture {self.family.format(arch)!r} is not one of the {self.size()} of {self.name}"
            )
        return self._places[arch]

    def validate(self, arch: Arch) -> Arch:
        """Return the architecture if it is a member.

        Raises:
            ValueError: it is not.
        """
        return self.members[self.index(arch)]

    def sample(self, num: int, generator: torch.Generator) -> list[Arch]:
        """Draw uniformly with replacement; a longer sample begins with the shorter one of the same seed."""
        return [self.members[place] for place in torch.randint(0, self.size(), (num,), generator=generator).tolist()]

    def parse(self, text: str) -> Arch:
        """Read the family's text form.

        Raises:
            ValueError: the text is malformed or of no member.
        """
        return self.validate(self.family.parse(text))

    def format(self, arch: Arch) -> str:
        """The family's text form; `parse` inverts it."""
        return self.family.format(arch)

    def encode(self, archs: Sequence[Arch]) -> Tensor:
        """Rows of `features`, (len(archs), D) float64.

        Raises:
            ValueError: an architecture is not a member.
        """
        return self.features[torch.tensor([self.index(arch) for arch in archs], dtype=torch.int64)]

    def build(self, arch: Arch, num_classes: int, resolution: int) -> nn.Module:
        """The family's network, freshly initialised."""
        return self.family.build(self.validate(arch), num_classes, resolution)

    def cost(self, arch: Arch, num_classes: int, resolution: int) -> Cost:
        """Exact cost, without building the network."""
        return self.family.cost(self.validate(arch), num_classes, resolution)


def read_mobilenet_pool(file: Path, family: FreeMobileNetV2Space | None = None) -> Pool[MobileNetV2Arch]:
    """The published MobileNetV2 pool: 100 networks.

    Args:
        file: table with the columns space, arch, channels, repetitions; lists are separated by spaces.
        family: the networks' stem and taps; those for small images by default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another table, or an architecture that the family refuses.
    """
    members = [MobileNetV2Arch(channels, repetitions) for channels, repetitions in _rows(file, "mobilenet")]
    return Pool(family=family or FreeMobileNetV2Space(), members=tuple(members))


def read_shufflenet_pool(file: Path, family: ShuffleNetV2Space | None = None) -> Pool[ShuffleNetV2Arch]:
    """The published ShuffleNetV2 pool, 300 networks; see `read_mobilenet_pool`."""
    members = [ShuffleNetV2Arch(channels, blocks) for channels, blocks in _rows(file, "shufflenet")]
    return Pool(family=family or ShuffleNetV2Space(), members=tuple(members))


def _rows(file: Path, space: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Channels and repetitions of the architectures of one space, in the order of their numbers."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: give the table of the published pools (mfkd_archs.csv)")
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames != _COLUMNS:
            raise ValueError(f"{file} has the columns {reader.fieldnames}; {_COLUMNS} are needed")
        rows = [row for row in reader if row["space"] == space]
    found = []
    for place, row in enumerate(rows):
        try:
            number, channels, repetitions = int(row["arch"]), _integers(row["channels"]), _integers(row["repetitions"])
        except (TypeError, ValueError):
            raise ValueError(f"{file}: row {place} of {space} has no lists of integers: {row}") from None
        if number != place:
            raise ValueError(f"{file}: row {place} of {space} has the number {number}; all are needed, in order")
        found.append((channels, repetitions))
    return found


def _integers(text: str | None) -> tuple[int, ...]:
    """Numbers separated by spaces; None stands for the rest of a row that is too short."""
    if not text:
        raise ValueError("no numbers")
    return tuple(map(int, text.split()))
