"""Layers whose weights serve every setting of a MobileNetV3 block.

Source: Cai et al., ICLR 2020, section 3.2 and released code, whose names the weights have.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.spaces.mobilenet_v3_arch import KERNELS
from common.spaces.mobilenet_v3_network import BareConv, SqueezeExcite, activation
from common.spaces.mobilenet_v3_plan import PlannedBlock, squeezed_width

_STEPS = tuple(zip(KERNELS[:0:-1], KERNELS[-2::-1], strict=True))
"""Sides of a larger kernel and of the one made from it: 7 and 5, 5 and 3."""


class LeadingNorm(nn.BatchNorm2d):
    """Batch normalisation of the leading channels: a narrower input uses and updates only its own statistics."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W), C up to num_features
        """Normalise."""
        width = x.shape[1]
        if width == self.num_features:
            return super().forward(x)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        mean, var = cast(Tensor, self.running_mean)[:width], cast(Tensor, self.running_var)[:width]
        momentum = cast(float, self.momentum)
        return F.batch_norm(x, mean, var, self.weight[:width], self.bias[:width], self.training, momentum, self.eps)


class ElasticNorm(nn.Module):
    """A `LeadingNorm` under the published name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = LeadingNorm(channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Normalise."""
        normalised: Tensor = self.bn(x)
        return normalised


class ElasticPointwise(nn.Module):
    """A 1x1 convolution from the leading channels to the leading channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = BareConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, outputs: int) -> Tensor:  # (B, C, H, W) -> (B, outputs, H, W)
        """Convolve."""
        return F.conv2d(x, self.conv.weight[:outputs, : x.shape[1]])


class ElasticDepthwise(nn.Module):
    """A depthwise convolution whose smaller kernels are linear maps of the middle of larger ones.

    The maps 7 -> 5 and 5 -> 3 follow one another; each is shared by all channels and begins as the identity.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        for large, small in reversed(_STEPS):  # the released order
            self.register_parameter(f"{large}to{small}_matrix", nn.Parameter(torch.eye(small**2)))
        self.conv = BareConv(channels, channels, KERNELS[-1], stride, groups=channels, bias=False)
        self.stride = stride

    def filters(self, channels: int, kernel: int) -> Tensor:
        """Filters of the leading channels, (channels, 1, kernel, kernel)."""
        weight = self.conv.weight[:channels]
        for large, small in _STEPS:
            if small >= kernel:
                flat = weight[:, :, 1:-1, 1:-1].reshape(channels, small**2)
                weight = F.linear(flat, self.get_parameter(f"{large}to{small}_matrix")).view(-1, 1, small, small)
        return weight

    def forward(self, x: Tensor, kernel: int) -> Tensor:  # (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))
        """Filter each channel."""
        channels = x.shape[1]
        return F.conv2d(x, self.filters(channels, kernel), None, self.stride, kernel // 2, groups=channels)


class ElasticExcite(SqueezeExcite):
    """Squeeze and excitation of the leading channels."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The maps, each times its weight between 0 and 1."""
        channels = x.shape[1]
        squeezed = squeezed_width(channels)
        reduce, expand = cast(nn.Conv2d, self.fc["reduce"]), cast(nn.Conv2d, self.fc["expand"])
        reduce_bias, expand_bias = cast(Tensor, reduce.bias)[:squeezed], cast(Tensor, expand.bias)[:channels]
        inner = F.conv2d(x.mean((2, 3), keepdim=True), reduce.weight[:squeezed, :channels], reduce_bias)
        return x * F.hardsigmoid(F.conv2d(F.relu(inner), expand.weight[:channels, :squeezed], expand_bias))


class ElasticInvertedResidual(nn.Module):
    """A block at any of its settings, without its shortcut.

    Args:
        block: at its largest settings.
    """

    def __init__(self, block: PlannedBlock) -> None:
        super().__init__()
        hidden = block.hidden
        self.inverted_bottleneck = nn.ModuleDict(
            {"conv": ElasticPointwise(block.inputs, hidden), "bn": ElasticNorm(hidden)}
        )
        self.depth_conv = nn.ModuleDict({"conv": ElasticDepthwise(hidden, block.stride), "bn": ElasticNorm(hidden)})
        if block.is_excited:
            self.depth_conv["se"] = ElasticExcite(hidden)
        self.point_linear = nn.ModuleDict(
            {"conv": ElasticPointwise(hidden, block.outputs), "bn": ElasticNorm(block.outputs)}
        )
        self.activation = activation(block.is_hswish)
        self.is_excited, self.outputs = block.is_excited, block.outputs

    def forward(self, x: Tensor, kernel: int, hidden: int) -> Tensor:  # (B, C, H, W) -> (B, outputs, H', W')
        """Widen, filter, excite, project."""
        widen, filters, project = self.inverted_bottleneck, self.depth_conv, self.point_linear
        x = self.activation(widen["bn"](widen["conv"](x, hidden)))
        x = self.activation(filters["bn"](filters["conv"](x, kernel)))
        if self.is_excited:
            x = filters["se"](x)
        projected: Tensor = project["bn"](project["conv"](x, self.outputs))
        return projected


class ElasticBlock(nn.Module):
    """A block at any of its settings, and its input added where the shapes allow.

    Args:
        block: at its largest settings.
    """

    def __init__(self, block: PlannedBlock) -> None:
        super().__init__()
        self.conv = ElasticInvertedResidual(block)
        self.has_shortcut = block.has_shortcut

    def forward(self, x: Tensor, kernel: int, hidden: int) -> Tensor:  # (B, C, H, W) -> (B, outputs, H', W')
        """One block."""
        y: Tensor = self.conv(x, kernel, hidden)
        return x + y if self.has_shortcut else y
