"""MobileNetV2 with free widths: the family of the networks of MFKD's first version.

Source: Trofimov et al., arXiv 2006.08341v1, released configurations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.spaces.base import Cost
from common.spaces.mobilenet_v2 import MobileNetV2Arch, format_pairs, parse_pairs
from common.spaces.mobilenet_v2_network import (
    NUM_STAGES,
    TAPS,
    MobileNetV2,
    MobileNetV2Plan,
    check_resolution,
    check_taps,
)
from common.spaces.rising import RisingWidths

_NUM_PAIRS = NUM_STAGES + 1
_MAX_REPETITIONS = 4
_STEP = 8
_FIRST, _SEVENTH = (16, 72), (104, 1096)
_WIDTHS = RisingWidths(
    lows=(_FIRST[0], 24, 32, 40, 56, 80, _SEVENTH[0], 128),
    highs=(_FIRST[1], 96, 168, 176, 344, 488, _SEVENTH[1], 2320),
    step=_STEP,
    is_strict=True,
)


@dataclass(frozen=True, kw_only=True)
class FreeMobileNetV2Space:
    """Eight pairs of channels and repetitions; the eighth is the last convolution and a number without effect.

    Channels are multiples of 8 and strictly increase, from 16 to 72 in the first stage to 104 to 1096 in the seventh;
    repetitions are 1 to 4.

    Raises:
        ValueError: another stride, or taps that the shallowest network does not have.
    """

    first_stride: int = 1
    """Of the stem: 1 for small images, 2 for ImageNet."""
    tap_indices: tuple[int, ...] = TAPS
    """Places in the network whose maps are distilled; of these, feature losses leave out the first and the last."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.first_stride not in (1, 2):
            raise ValueError(f"first_stride {self.first_stride}: 1 (small images) or 2 (ImageNet)")
        check_taps(self.tap_indices, NUM_STAGES + 2)

    @property
    def name(self) -> str:
        """`mobilenet_v2_free-s1` or `-s2`: the same name, the same networks."""
        return f"mobilenet_v2_free-s{self.first_stride}"

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the maps of `features_and_logits`, such as `features.0`."""
        return tuple(f"features.{index}" for index in self.tap_indices)

    def sample(self, num: int, generator: torch.Generator) -> list[MobileNetV2Arch]:
        """Draw with replacement: widths log-uniform given that they grow, repetitions uniform."""
        rows = zip(*_WIDTHS.draw(num, _NUM_PAIRS, _MAX_REPETITIONS, generator), strict=True)
        return [MobileNetV2Arch(tuple(widths), tuple(blocks)) for widths, blocks in rows]

    def validate(self, arch: MobileNetV2Arch) -> MobileNetV2Arch:
        """Return the architecture if it lies in the space.

        Raises:
            ValueError: it does not; the message says why and what is allowed.
        """
        reason = _fault(arch)
        if reason:
            raise ValueError(f"architecture {format_pairs(arch)!r}: {reason}")
        return arch

    def parse(self, text: str) -> MobileNetV2Arch:
        """Read `16x4_32x1_64x4_128x4_184x2_320x1_440x2_536x2`: channels x blocks of the eight pairs.

        Raises:
            ValueError: the text is malformed or lies outside the space.
        """
        return self.validate(parse_pairs(text))

    def format(self, arch: MobileNetV2Arch) -> str:
        """The text form; `parse` inverts it."""
        return format_pairs(arch)

    def encode(self, archs: Sequence[MobileNetV2Arch]) -> Tensor:
        """The published features: channels and repetitions of each pair, unscaled, (len(archs), 16) float64.

        The last number has no effect on the network.

        Raises:
            ValueError: an architecture lies outside the space.
        """
        rows = [[self.validate(arch).channels, arch.repetitions] for arch in archs]
        pairs = torch.tensor(rows, dtype=torch.float64).reshape(len(archs), 2, _NUM_PAIRS)
        return pairs.transpose(1, 2).flatten(1)

    def build(self, arch: MobileNetV2Arch, num_classes: int, resolution: int) -> nn.Module:
        """The network, freshly initialised from torch's global generator.

        Raises:
            ValueError: the architecture lies outside the space, or a resolution or number of classes below 1.
        """
        check_resolution(resolution)
        return MobileNetV2(self._plan(arch), num_classes, self.tap_indices)

    def cost(self, arch: MobileNetV2Arch, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions and classifier, in closed form."""
        return self._plan(arch).cost(num_classes, resolution)

    def _plan(self, arch: MobileNetV2Arch) -> MobileNetV2Plan:
        return MobileNetV2Plan(
            channels=self.validate(arch).channels[:NUM_STAGES],
            repetitions=arch.repetitions[:NUM_STAGES],
            last_channel=arch.channels[NUM_STAGES],
            first_stride=self.first_stride,
        )


def _fault(arch: MobileNetV2Arch) -> str:
    """Why the architecture lies outside the space; empty where it does not."""
    channels, repetitions = arch.channels, arch.repetitions
    if len(channels) != _NUM_PAIRS or len(repetitions) != _NUM_PAIRS:
        return f"{len(channels)} channels and {len(repetitions)} repetitions; {_NUM_PAIRS} of each are needed"
    if any(width % _STEP for width in channels) or sorted({*channels}) != list(channels):
        return f"channels {channels}; multiples of {_STEP} that increase with depth are needed"
    for what, width, (low, high) in (("first", channels[0], _FIRST), ("seventh", channels[6], _SEVENTH)):
        if not low <= width <= high:
            return f"{what} channels {width}; {low} to {high} are allowed"
    if not all(1 <= number <= _MAX_REPETITIONS for number in repetitions):
        return f"repetitions {repetitions}; 1 to {_MAX_REPETITIONS} are allowed"
    return ""
