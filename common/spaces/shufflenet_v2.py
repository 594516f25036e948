"""ShuffleNetV2 with free widths and depths: the second family of MFKD's first version.

Source: Trofimov et al., arXiv 2006.08341v1, released configurations.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.spaces.base import Cost
from common.spaces.mobilenet_v2_network import check_resolution
from common.spaces.rising import RisingWidths
from common.spaces.shufflenet_v2_network import NUM_STAGES, STEM, TAPS, ShuffleNetV2

_MAX_BLOCKS = 10
_WIDTHS = RisingWidths(lows=(24, 38, 182, 232), highs=(216, 506, 972, 4164), step=2, is_strict=False)
_TEXT = re.compile(r"([0-9]{1,6}x[0-9]{1,6}_)+[0-9]{1,6}")


@dataclass(frozen=True)
class ShuffleNetV2Arch:
    """Channels of the three stages and of the last convolution, and split units of the three stages."""

    out_channels: tuple[int, ...]
    num_blocks: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ShuffleNetV2Space:
    """Even channels that never fall with depth, 1 to 10 blocks a stage."""

    preact: bool = False
    """Whether the maps of the stages are those before the last ReLU and shuffle."""

    @property
    def name(self) -> str:
        """`shufflenet_v2`: the same name, the same networks."""
        return "shufflenet_v2"

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the maps of `features_and_logits`."""
        return TAPS

    @property
    def teacher(self) -> ShuffleNetV2Arch:
        """ShuffleNetV2 1x of its authors."""
        return ShuffleNetV2Arch((116, 232, 464, 1024), (3, 7, 3))

    def sample(self, num: int, generator: torch.Generator) -> list[ShuffleNetV2Arch]:
        """Draw with replacement: widths log-uniform given that they never fall, blocks uniform."""
        rows = zip(*_WIDTHS.draw(num, NUM_STAGES, _MAX_BLOCKS, generator), strict=True)
        return [ShuffleNetV2Arch(tuple(widths), tuple(depths)) for widths, depths in rows]

    def validate(self, arch: ShuffleNetV2Arch) -> ShuffleNetV2Arch:
        """Return the architecture if it lies in the space.

        Raises:
            ValueError: it does not; the message says why and what is allowed.
        """
        channels, blocks = arch.out_channels, arch.num_blocks
        start = f"architecture {self.format(arch)!r}"
        if len(channels) != NUM_STAGES + 1 or len(blocks) != NUM_STAGES:
            raise ValueError(f"{start}: {len(channels)} widths and {len(blocks)} depths; four and three are needed")
        if any(width % 2 or width < 2 for width in channels) or list(channels) != sorted(channels):
            raise ValueError(f"{start}: channels {channels}; even ones that never fall with depth are needed")
        if not all(1 <= depth <= _MAX_BLOCKS for depth in blocks):
            raise ValueError(f"{start}: blocks {blocks}; 1 to {_MAX_BLOCKS} are allowed")
        return arch

    def parse(self, text: str) -> ShuffleNetV2Arch:
        """Read `116x3_232x7_464x3_1024`: channels x blocks of the stages, then the last convolution's channels.

        Raises:
            ValueError: the text is malformed or lies outside the space.
        """
        if not _TEXT.fullmatch(text.strip()):
            raise ValueError(
                f"architecture {text!r} is malformed: channels x blocks of the stages and the last channels, "
                f"like {self.format(self.teacher)!r}"
            )
        *stages, last = text.strip().split("_")
        pairs = [stage.split("x") for stage in stages]
        widths = (*(int(width) for width, _ in pairs), int(last))
        return self.validate(ShuffleNetV2Arch(widths, tuple(int(depth) for _, depth in pairs)))

    def format(self, arch: ShuffleNetV2Arch) -> str:
        """The text form; `parse` inverts it."""
        stages = zip(arch.out_channels[:-1], arch.num_blocks, strict=False)
        return "_".join([*(f"{width}x{depth}" for width, depth in stages), *map(str, arch.out_channels[-1:])])

    def encode(self, archs: Sequence[ShuffleNetV2Arch]) -> Tensor:
        """The published features: channels, then blocks, unscaled, (len(archs), 7) float64.

        Raises:
            ValueError: an architecture lies outside the space.
        """
        rows = [(*self.validate(arch).out_channels, *arch.num_blocks) for arch in archs]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(archs), 2 * NUM_STAGES + 1)

    def build(self, arch: ShuffleNetV2Arch, num_classes: int, resolution: int) -> nn.Module:
        """The network, freshly initialised from torch's global generator.

        Raises:
            ValueError: the architecture lies outside the space, or a resolution or number of classes below 1.
        """
        check_resolution(resolution)
        self.validate(arch)
        return ShuffleNetV2(arch.out_channels, arch.num_blocks, num_classes, preact=self.preact)

    def cost(self, arch: ShuffleNetV2Arch, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions and classifier, in closed form."""
        check_resolution(resolution)
        self.validate(arch)
        params, macs = 5 * STEM, 3 * STEM * resolution**2
        inputs, side = STEM, resolution
        for outputs, blocks in zip(arch.out_channels, arch.num_blocks, strict=False):
            half, before, side = outputs // 2, side, (side + 1) // 2
            down = inputs * (9 + half) + half * (9 + half)  # kernels on the small map; one more is on the large map
            params += down + inputs * half + 2 * inputs + 8 * half
            macs += down * side**2 + inputs * half * before**2
            split = half * (2 * half + 9)
            params += blocks * (split + 6 * half)
            macs += blocks * split * side**2
            inputs = outputs
        last = arch.out_channels[-1]
        params += (inputs + 2) * last + (last + 1) * num_classes
        return Cost(num_params=params, macs=macs + inputs * last * side**2 + last * num_classes)
