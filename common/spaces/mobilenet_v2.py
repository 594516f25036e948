"""The MobileNetV2 space of MFKD: a grid of widths and depths of seven stages.

Source: Trofimov et al., arXiv 2006.08341, released code for Vega.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import nn

from common.experiment.config import digest
from common.spaces.base import Cost
from common.spaces.configuration import complete
from common.spaces.grid import Grid, Level, Options, grid_of
from common.spaces.grid_space import GridSpace
from common.spaces.mobilenet_v2_network import (
    NUM_STAGES,
    TAPS,
    MobileNetV2,
    MobileNetV2Plan,
    check_resolution,
    check_taps,
)

_KEYS = ("channels", "repetitions")
_PAIRS = re.compile(r"[0-9]{1,6}x[0-9]{1,6}(_[0-9]{1,6}x[0-9]{1,6})*")


@dataclass(frozen=True)
class MobileNetV2Arch:
    """Output channels and blocks of the seven stages, in two tuples of one length.

    In `FreeMobileNetV2Space` an eighth pair follows: the channels of the last convolution, and a number that has no
    effect on the network and is a feature of the architecture all the same.
    """

    channels: tuple[int, ...]
    repetitions: tuple[int, ...]


DEFAULT_MOBILENET_V2 = MobileNetV2Arch((16, 24, 32, 64, 96, 160, 320), (1, 2, 3, 4, 3, 3, 1))
"""The network of the MobileNetV2 paper, which is the published teacher."""


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Space(GridSpace[MobileNetV2Arch]):
    """Grid of channels and repetitions of the seven stages: 2,097,152 points by default, never enumerated.

    Raises:
        ValueError: not seven stages, options that repeat or are no positive integers, taps that the shallowest network
            does not have.
    """

    channels: tuple[Options, ...] = ((16, 24), (24, 32), (32, 64), (64, 96), (96, 160), (160, 320), (320, 640))
    """Of each stage: a tuple is searched, a number fixed."""
    repetitions: tuple[Options, ...] = ((1, 2, 3, 4),) * NUM_STAGES
    """Of each stage: a tuple is searched, a number fixed."""
    first_stride: int = 1
    """Of the stem: 1 for small images, 2 for ImageNet."""
    last_channel: int = 1280
    """Channels of the last convolution."""
    width_mult: float = 1.0
    """Factor on all channels (0.5 in the published ImageNet teacher)."""
    tap_indices: tuple[int, ...] = TAPS
    """Places in the network whose maps are distilled; of these, feature losses leave out the first and the last."""

    default = DEFAULT_MOBILENET_V2

    def __post_init__(self) -> None:
        """Check the fields."""
        if len(self.channels) != NUM_STAGES or len(self.repetitions) != NUM_STAGES:
            raise ValueError(f"channels {self.channels} and repetitions {self.repetitions}: seven of each are needed")
        options = [(axis.key, level) for axis in self.grid.axes for level in axis.levels]
        for key, level in (*options, *self.grid.constants):
            _positive(key, level)
        plan = self._plan(self.smallest)  # which checks the other fields
        check_taps(self.tap_indices, plan.num_places)

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> "MobileNetV2Space":
        """The space of nested options as in published files: `{"layer_0": {"channels": [16, 24], ...}, ...}`.

        A list is searched, a number fixed; what is not given is fixed to the value of the published teacher.

        Raises:
            ValueError: an unknown key, or options that are no positive integers.
        """
        space = cls()
        values = complete(options, space.grid.keys, space.values_of(DEFAULT_MOBILENET_V2))
        return cls(channels=_column(values, "channels"), repetitions=_column(values, "repetitions"))

    @property
    def name(self) -> str:
        """Such as `mobilenet_v2-2097152-<digest of the fields>`: the same name, the same networks and indices."""
        fields = (self.channels, self.repetitions, self.first_stride, self.last_channel, self.width_mult)
        return f"mobilenet_v2-{self.size()}-{digest({'fields': fields})}"

    @cached_property
    def grid(self) -> Grid:
        """Axes `layer_0.channels`, `layer_0.repetitions`, `layer_1.channels`, ...; the last is the fastest."""
        stages = zip(self.channels, self.repetitions, strict=True)
        return grid_of({f"layer_{i}": {"channels": c, "repetitions": r} for i, (c, r) in enumerate(stages)})

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the maps of `features_and_logits`, such as `features.0`."""
        return tuple(f"features.{index}" for index in self.tap_indices)

    @property
    def teacher(self) -> MobileNetV2Arch:
        """The published teacher; it can be built whether it lies in the space or not."""
        return DEFAULT_MOBILENET_V2

    @property
    def smallest(self) -> MobileNetV2Arch:
        """The least of all options."""
        return self._extreme(min)

    @property
    def largest(self) -> MobileNetV2Arch:
        """The most of all options."""
        return self._extreme(max)

    def values_of(self, arch: MobileNetV2Arch) -> dict[str, Level]:
        """Flat configuration of any seven stages, in the space or not.

        Raises:
            ValueError: not seven stages.
        """
        counts = len(arch.channels), len(arch.repetitions)
        if counts != (NUM_STAGES, NUM_STAGES):
            raise ValueError(f"{counts[0]} channels and {counts[1]} repetitions; {NUM_STAGES} of each are needed")
        stages = enumerate(zip(arch.channels, arch.repetitions, strict=True))
        return {f"layer_{i}.{key}": v for i, pair in stages for key, v in zip(_KEYS, pair, strict=True)}

    def arch_of(self, values: Mapping[str, Level]) -> MobileNetV2Arch:
        """The inverse of `values_of`.

        Raises:
            ValueError: a value is no positive integer.
        """
        columns = ([f"layer_{i}.{key}" for i in range(NUM_STAGES)] for key in _KEYS)
        return MobileNetV2Arch(*(tuple(_positive(key, values[key]) for key in column) for column in columns))

    def parse(self, text: str) -> MobileNetV2Arch:
        """Read `16x1_24x2_32x3_64x4_96x3_160x3_320x1`: channels x blocks of each stage.

        Raises:
            ValueError: the text is malformed or lies outside the space.
        """
        return self.validate(parse_pairs(text))

    def format(self, arch: MobileNetV2Arch) -> str:
        """The text form; `parse` inverts it."""
        return format_pairs(arch)

    def build(self, arch: MobileNetV2Arch, num_classes: int, resolution: int) -> nn.Module:
        """The network of any seven stages (the teacher need not lie in the space), from torch's global generator.

        Raises:
            ValueError: not seven stages, a number that is not positive, or taps that the network does not have.
        """
        check_resolution(resolution)
        return MobileNetV2(self._plan(arch), num_classes, self.tap_indices)

    def cost(self, arch: MobileNetV2Arch, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions and classifier, in closed form."""
        return self._plan(arch).cost(num_classes, resolution)

    def _plan(self, arch: MobileNetV2Arch) -> MobileNetV2Plan:
        return MobileNetV2Plan(
            channels=arch.channels,
            repetitions=arch.repetitions,
            last_channel=self.last_channel,
            first_stride=self.first_stride,
            width_mult=self.width_mult,
        )

    def _extreme(self, choose: Callable[[tuple[Level, ...]], Level]) -> MobileNetV2Arch:
        chosen = {axis.key: choose(axis.levels) for axis in self.grid.axes}
        return self.arch_of(dict(self.grid.constants) | chosen)


def parse_pairs(text: str) -> MobileNetV2Arch:
    """Read `16x1_24x2_...`.

    Raises:
        ValueError: the text is malformed.
    """
    if not _PAIRS.fullmatch(text.strip()):
        example = format_pairs(DEFAULT_MOBILENET_V2)
        raise ValueError(f"architecture {text!r} is malformed: channels x blocks of each stage, like {example!r}")
    pairs = [pair.split("x") for pair in text.strip().split("_")]
    return MobileNetV2Arch(tuple(int(channels) for channels, _ in pairs), tuple(int(blocks) for _, blocks in pairs))


def format_pairs(arch: MobileNetV2Arch) -> str:
    """The text form of any MobileNetV2."""
    return "_".join(f"{channels}x{blocks}" for channels, blocks in zip(arch.channels, arch.repetitions, strict=False))


def _column(options: Mapping[str, object], key: str) -> tuple[Options, ...]:
    """Options of one kind for every stage; the space checks them."""
    return tuple(cast(Options, options[f"layer_{i}.{key}"]) for i in range(NUM_STAGES))


def _positive(key: str, level: Level) -> int:
    if isinstance(level, bool) or not isinstance(level, int) or level < 1:
        raise ValueError(f"{key} has the option {level!r}; positive integers are needed")
    return level
