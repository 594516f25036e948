"""MobileNetV3 networks of the once-for-all space, as plain modules.

Source: Cai et al., ICLR 2020, released code. Weights have the names of the networks that it cuts out of its supernet,
and outputs are the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from common.spaces.mobilenet_v3_plan import MobileNetV3Plan, PlannedBlock, squeezed_width


class BareConv(nn.Conv2d):
    """A convolution without weights of its own making: drawing them twice would cost more than all else in building."""

    def reset_parameters(self) -> None:
        """Leave the weights to whoever builds the network."""


class BareLinear(nn.Linear):
    """A linear layer without weights of its own making."""

    def reset_parameters(self) -> None:
        """Leave the weights to whoever builds the network."""


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, is_depthwise: bool = False
) -> OrderedDict[str, nn.Module]:
    """Convolution without bias that keeps the size (up to the stride), and batch normalisation, by their names."""
    groups = inputs if is_depthwise else 1
    conv = BareConv(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return OrderedDict[str, nn.Module](conv=conv, bn=nn.BatchNorm2d(outputs))


def activation(is_hswish: bool) -> nn.Module:
    """h-swish or ReLU, in place."""
    return nn.Hardswish(inplace=True) if is_hswish else nn.ReLU(inplace=True)


class SqueezeExcite(nn.Module):
    """Weight channels by a small network of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = squeezed_width(channels)
        reduce, expand = BareConv(channels, squeezed, 1), BareConv(squeezed, channels, 1)
        self.fc = nn.ModuleDict({"reduce": reduce, "expand": expand})

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The maps, each times its weight between 0 and 1."""
        squeezed = F.relu(self.fc["reduce"](x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.fc["expand"](squeezed))


class InvertedResidual(nn.Module):
    """One block without its shortcut."""

    def __init__(self, block: PlannedBlock) -> None:
        super().__init__()
        inputs, hidden = block.inputs, block.hidden
        if block.is_widened:
            widen = conv_norm(inputs, hidden)
            widen["act"] = activation(block.is_hswish)
            self.inverted_bottleneck = nn.Sequential(widen)
        depthwise = conv_norm(hidden, hidden, block.kernel, stride=block.stride, is_depthwise=True)
        depthwise["act"] = activation(block.is_hswish)
        if block.is_excited:
            depthwise["se"] = SqueezeExcite(hidden)
        self.depth_conv = nn.Sequential(depthwise)
        self.point_linear = nn.Sequential(conv_norm(hidden, block.outputs))
        self.is_widened = block.is_widened

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))
        """Widen, filter, excite, project."""
        if self.is_widened:
            x = self.inverted_bottleneck(x)
        projected: Tensor = self.point_linear(self.depth_conv(x))
        return projected


class ResidualBlock(nn.Module):
    """A block, and its input added where the shapes allow."""

    def __init__(self, block: PlannedBlock) -> None:
        super().__init__()
        self.conv = InvertedResidual(block)
        self.has_shortcut = block.has_shortcut

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))
        """One block."""
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


def initialise(network: nn.Module) -> None:
    """The published initial weights, from torch's global generator."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


class MobileNetV3(nn.Module):
    """Stem, blocks, last convolution, global average, a convolution of the pooled map, linear.

    Args:
        blocks: the first block and those of the five stages.
        plan: widths of what surrounds them.
        num_classes: outputs.
        fill: sets all weights, which have no values before.

    Raises:
        ValueError: no classes.
    """

    def __init__(
        self,
        blocks: Sequence[PlannedBlock],
        plan: MobileNetV3Plan,
        num_classes: int,
        fill: Callable[[nn.Module], None] = initialise,
    ) -> None:
        super().__init__()
        stem, last, mix, classifier = ends(plan, num_classes)
        self.first_conv = stem
        self.blocks = nn.ModuleList(map(ResidualBlock, blocks))
        self.final_expand_layer, self.feature_mix_layer, self.classifier = last, mix, classifier
        fill(self)

    def embed(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, mix)
        """What the classifier sees."""
        x = self.first_conv(images)
        for block in self.blocks:
            x = block(x)
        pooled = self.final_expand_layer(x).mean((2, 3), keepdim=True)
        vector: Tensor = self.feature_mix_layer(pooled).flatten(1)
        return vector

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, num_classes)
        """Logits."""
        logits: Tensor = self.classifier(self.embed(images))
        return logits


def ends(plan: MobileNetV3Plan, num_classes: int) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential, nn.Sequential]:
    """Stem, last convolution, convolution of the pooled map, and classifier.

    Raises:
        ValueError: no classes.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes {num_classes}: at least 1 is needed")
    first, last = conv_norm(3, plan.stem, 3, stride=plan.first_stride), conv_norm(plan.widths[-1], plan.head)
    first["act"], last["act"] = activation(is_hswish=True), activation(is_hswish=True)
    mix = OrderedDict[str, nn.Module](conv=BareConv(plan.head, plan.mix, 1, bias=False), act=activation(True))
    classifier = OrderedDict[str, nn.Module](linear=BareLinear(plan.mix, num_classes))
    return nn.Sequential(first), nn.Sequential(last), nn.Sequential(mix), nn.Sequential(classifier)
