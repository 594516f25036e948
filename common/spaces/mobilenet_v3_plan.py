"""What MobileNetV3 networks of the once-for-all space are made of, and what they cost.

Source: Cai et al., ICLR 2020, released code (`OFAMobileNetV3`); Howard et al., "Searching for MobileNetV3", ICCV 2019.
"""

from dataclasses import dataclass

from common.spaces.base import Cost
from common.spaces.mobilenet_v2_network import check_resolution, round_channels
from common.spaces.mobilenet_v3_arch import EXPANSIONS, KERNELS, MAX_DEPTH, MobileNetV3Arch

STRIDES = (2, 2, 2, 1, 2)
"""Stride of the first block of each stage."""
_WIDTHS = (24, 40, 80, 112, 160)
_USES_HSWISH = (False, False, True, True, True)
_USES_EXCITATION = (False, True, False, True, True)
_STEM, _HEAD, _MIX = 16, 960, 1280
_REDUCTION = 4


@dataclass(frozen=True, kw_only=True)
class PlannedBlock:
    """An inverted residual block: widen, filter each channel, excite, project.

    Attributes:
        inputs: channels that enter.
        hidden: channels of the depthwise convolution; equal to `inputs` where nothing is widened.
        outputs: channels that leave.
        kernel: side of the depthwise kernel.
        stride: of the depthwise convolution.
        is_widened: whether a 1x1 convolution comes first.
        is_hswish: the activation is h-swish and not ReLU.
        is_excited: whether channels are weighted by squeeze and excitation.
    """

    inputs: int
    hidden: int
    outputs: int
    kernel: int
    stride: int
    is_widened: bool
    is_hswish: bool
    is_excited: bool

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs

    @property
    def squeezed(self) -> int:
        """Channels between squeeze and excitation."""
        return squeezed_width(self.hidden)

    def cost(self, side: int) -> Cost:
        """Cost on maps of (side, side) pixels."""
        after = strided(side, self.stride)
        params = (self.kernel**2 + 2) * self.hidden + (self.hidden + 2) * self.outputs
        macs = (self.kernel**2 + self.outputs) * self.hidden * after**2
        if self.is_widened:
            params += (self.inputs + 2) * self.hidden
            macs += self.inputs * self.hidden * side**2
        if self.is_excited:
            params += 2 * self.hidden * self.squeezed + self.hidden + self.squeezed
            macs += 2 * self.hidden * self.squeezed
        return Cost(num_params=params, macs=macs)


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Plan:
    """Widths and strides that all networks of a space share.

    Raises:
        ValueError: a multiplier that is not positive, or a stride other than 1 and 2.
    """

    width_mult: float = 1.0
    """Factor on all widths; released supernets have 1.0 and 1.2."""
    first_stride: int = 2
    """Of the stem: 2 for ImageNet, 1 keeps the maps of small images from vanishing."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.width_mult > 0:
            raise ValueError(f"width_mult {self.width_mult}: a positive number is needed, for example 1.0")
        if self.first_stride not in (1, 2):
            raise ValueError(f"first_stride {self.first_stride}: 1 (small images) or 2 (ImageNet)")

    @property
    def stem(self) -> int:
        """Channels of the first convolution and of the first block."""
        return round_channels(_STEM, self.width_mult)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels that leave each stage."""
        return tuple(round_channels(width, self.width_mult) for width in _WIDTHS)

    @property
    def head(self) -> int:
        """Channels of the last convolution before pooling."""
        return round_channels(_HEAD, self.width_mult)

    @property
    def mix(self) -> int:
        """Channels of the convolution after pooling: what the classifier sees."""
        return round_channels(_MIX, self.width_mult)

    def first_block(self) -> PlannedBlock:
        """The block before the stages, the same in all networks."""
        return PlannedBlock(
            inputs=self.stem, hidden=self.stem, outputs=self.stem, kernel=3, stride=1,
            is_widened=False, is_hswish=False, is_excited=False,
        )  # fmt: skip

    def stage_inputs(self, stage: int, position: int) -> int:
        """Channels that enter a block."""
        if position:
            return self.widths[stage]
        return self.widths[stage - 1] if stage else self.stem

    def block(self, stage: int, position: int, kernel: int, expansion: int) -> PlannedBlock:
        """A block of a stage."""
        inputs = self.stage_inputs(stage, position)
        return PlannedBlock(
            inputs=inputs,
            hidden=hidden_width(inputs, expansion),
            outputs=self.widths[stage],
            kernel=kernel,
            stride=1 if position else STRIDES[stage],
            is_widened=True,
            is_hswish=_USES_HSWISH[stage],
            is_excited=_USES_EXCITATION[stage],
        )

    def blocks(self, arch: MobileNetV3Arch) -> list[PlannedBlock]:
        """All blocks of a network, the first one included."""
        planned = [self.first_block()]
        for stage, blocks in enumerate(arch.stages):
            planned += [self.block(stage, position, *block) for position, block in enumerate(blocks)]
        return planned

    def widest_blocks(self) -> list[PlannedBlock]:
        """The twenty blocks of the supernet at their largest settings, stage by stage."""
        places = [(stage, position) for stage in range(len(STRIDES)) for position in range(MAX_DEPTH)]
        return [self.block(*place, KERNELS[-1], EXPANSIONS[-1]) for place in places]

    def cost(self, arch: MobileNetV3Arch, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions (those of excitations included) and classifier, in closed form.

        Raises:
            ValueError: the resolution is not positive.
        """
        check_resolution(resolution)
        side = strided(resolution, self.first_stride)
        params, macs = 29 * self.stem, 27 * self.stem * side**2
        for block in self.blocks(arch):
            cost = block.cost(side)
            params, macs = params + cost.num_params, macs + cost.macs
            side = strided(side, block.stride)
        last, head, mix = self.widths[-1], self.head, self.mix
        params += (last + 2) * head + head * mix + (mix + 1) * num_classes
        macs += last * head * side**2 + head * mix + mix * num_classes
        return Cost(num_params=params, macs=macs)


def hidden_width(inputs: int, expansion: int) -> int:
    """Channels inside a block."""
    return round_channels(inputs * expansion)


def squeezed_width(hidden: int) -> int:
    """Channels between squeeze and excitation, of as many as a block has inside."""
    return round_channels(hidden // _REDUCTION)


def strided(side: int, stride: int) -> int:
    """Side of a map after a padded convolution."""
    return (side - 1) // stride + 1
