"""MobileNetV2 with free widths and depths of its seven stages, and maps for feature distillation.

Source: Sandler et al., CVPR 2018; MFKD, released code (stem stride, taps). Weights have the names of torchvision's
`mobilenet_v2`, whose outputs are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from common.spaces.base import Cost

EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
"""Expansion of the blocks of each stage."""
STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Stride of the first block of each stage."""
NUM_STAGES = len(STRIDES)
TAPS = (0, 2, 3, 5, 7)
"""Published taps: places in the list of stem, blocks and last convolution, whatever the depths of the stages."""
_STEM = 32
_DROPOUT = 0.2


def round_channels(channels: int, width_mult: float = 1.0) -> int:
    """Channels times the multiplier, to the nearest multiple of 8 that is not more than a tenth smaller."""
    wanted = channels * width_mult
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


@dataclass(frozen=True)
class Block:
    """An inverted residual block: channels in and out, stride, expansion."""

    inputs: int
    outputs: int
    stride: int
    expansion: int

    @property
    def hidden(self) -> int:
        """Channels of the depthwise convolution."""
        return self.inputs * self.expansion


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Plan:
    """What one MobileNetV2 is made of.

    Raises:
        ValueError: not seven stages, or a number that is not positive.
    """

    channels: tuple[int, ...]
    """Output channels of the seven stages, before the multiplier."""
    repetitions: tuple[int, ...]
    """Blocks of the seven stages."""
    last_channel: int = 1280
    """Channels of the last convolution, before the multiplier (which never narrows it)."""
    first_stride: int = 1
    """Of the stem: 1 for small images, 2 for ImageNet."""
    width_mult: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        if len(self.channels) != NUM_STAGES or len(self.repetitions) != NUM_STAGES:
            raise ValueError(f"channels {self.channels} and repetitions {self.repetitions}: seven of each are needed")
        if min(*self.channels, *self.repetitions) < 1:
            raise ValueError(f"channels {self.channels}, repetitions {self.repetitions}: positive numbers are needed")
        if self.last_channel < 1 or not self.width_mult > 0:
            raise ValueError(
                f"last_channel, width_mult: positive numbers are needed, not {self.last_channel}, {self.width_mult}"
            )
        if self.first_stride not in (1, 2):
            raise ValueError(f"first_stride {self.first_stride}: 1 (small images) or 2 (ImageNet)")

    @property
    def stem(self) -> int:
        """Channels of the stem."""
        return round_channels(_STEM, self.width_mult)

    @property
    def head(self) -> int:
        """Channels of the last convolution."""
        return round_channels(self.last_channel, max(1.0, self.width_mult))

    @property
    def num_places(self) -> int:
        """Entries of the network's `features`: stem, blocks, last convolution."""
        return sum(self.repetitions) + 2

    def blocks(self) -> Iterator[Block]:
        """The blocks of all stages, in order."""
        inputs = self.stem
        stages = zip(self.channels, self.repetitions, STRIDES, EXPANSIONS, strict=True)
        for channels, repetitions, stride, expansion in stages:
            outputs = round_channels(channels, self.width_mult)
            for position in range(repetitions):
                yield Block(inputs, outputs, stride if position == 0 else 1, expansion)
                inputs = outputs

    def cost(self, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions and classifier, in closed form.

        Raises:
            ValueError: the resolution is not positive.
        """
        check_resolution(resolution)
        side = _strided(resolution, self.first_stride)
        params, macs = 29 * self.stem, 27 * self.stem * side**2
        width = self.stem
        for block in self.blocks():
            hidden, width = block.hidden, block.outputs
            if block.expansion != 1:
                params += (block.inputs + 2) * hidden
                macs += block.inputs * hidden * side**2
            side = _strided(side, block.stride)
            params += 11 * hidden + (hidden + 2) * width
            macs += (9 + width) * hidden * side**2
        params += (width + 2) * self.head + (self.head + 1) * num_classes
        macs += width * self.head * side**2 + self.head * num_classes
        return Cost(num_params=params, macs=macs)


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel by a 3x3, project linearly; identity where the shapes allow."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.hidden
        layers: list[nn.Module] = [] if block.expansion == 1 else [conv_bn_relu6(block.inputs, hidden, 1)]
        layers.append(conv_bn_relu6(hidden, hidden, 3, stride=block.stride, groups=hidden))
        layers += [nn.Conv2d(hidden, block.outputs, 1, bias=False), nn.BatchNorm2d(block.outputs)]
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = block.stride == 1 and block.inputs == block.outputs

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))
        """One block."""
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """Stem, inverted residual blocks, last convolution, global average, dropout, linear.

    Args:
        plan: widths, depths and strides.
        num_classes: outputs.
        taps: increasing places in `features` whose outputs `features_and_logits` returns; at least nine places exist.

    Raises:
        ValueError: no classes, or taps that are not increasing places of this network.
    """

    def __init__(self, plan: MobileNetV2Plan, num_classes: int, taps: Sequence[int] = TAPS) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes {num_classes}: at least 1 is needed")
        blocks = list(plan.blocks())
        self.plan, self.taps = plan, check_taps(taps, plan.num_places)
        stem = conv_bn_relu6(3, plan.stem, 3, stride=plan.first_stride)
        last = conv_bn_relu6(blocks[-1].outputs, plan.head, 1)
        self.features = nn.Sequential(stem, *map(InvertedResidual, blocks), last)
        linear = nn.Linear(plan.head, num_classes)
        self.classifier = nn.Sequential(nn.Dropout(_DROPOUT), linear)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)

    def features_and_logits(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps at the taps and the logits, from one forward pass.

        Args:
            images: (B, 3, R, R), any R.

        Returns:
            Maps (B, C, H, W), one a tap, and logits (B, num_classes).
        """
        maps, x = [], images
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.taps:
                maps.append(x)
        return maps, self.classifier(x.mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, num_classes)
        """Logits."""
        return self.features_and_logits(images)[1]


def conv_bn_relu6(inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution that keeps the size (up to the stride), batch norm, ReLU6."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, (kernel_size - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def check_taps(taps: Sequence[int], num_places: int) -> tuple[int, ...]:
    """Return the taps if they are increasing places of a network.

    Raises:
        ValueError: they are not.
    """
    if list(taps) != sorted({*taps}) or not all(0 <= tap < num_places for tap in taps):
        raise ValueError(f"taps {tuple(taps)}: increasing places from 0 to {num_places - 1} are needed")
    return tuple(taps)


def check_resolution(resolution: int) -> None:
    """Refuse an image without pixels; every positive size is fine, odd ones are rounded up when halved.

    Raises:
        ValueError: the resolution is not positive.
    """
    if resolution < 1:
        raise ValueError(f"resolution {resolution} is not positive; use for example 32 or 224")


def _strided(side: int, stride: int) -> int:
    """Side of a map after a padded convolution."""
    return (side - 1) // stride + 1
