"""The small feature network: 32 x 32 RGB in, 512 non-negative numbers out, half a millisecond on one core.

A residual network of three blocks (He et al. 2016, shortcuts averaged and projected where they halve the image), with
the width and the sign of the ResNet-18 features that published set encoders take, at a ninth of the weights.
"""

import copy
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FEATURE_DIM = 512
"""Numbers that describe an image, as many as a ResNet-18 gives."""

STEM_WIDTH = 32
BLOCK_WIDTHS = (64, 128, 256)
"""Channels of the blocks; each halves height and width."""

ARCHITECTURE = f"residual-{STEM_WIDTH}-{'-'.join(map(str, BLOCK_WIDTHS))}-{FEATURE_DIM}"
"""What weights files say they are for."""


class ConvNorm(nn.Module):
    """Convolution and batch normalisation; folded, one convolution with bias that does the same.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: odd; the border is padded with zeros.
        stride: of the convolution.
        folded: whether the normalisation is part of the weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, folded: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=folded)
        self.norm = nn.Identity() if folded else nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H / stride, W / stride)
        """Convolve and normalise."""
        y: Tensor = self.norm(self.conv(x))
        return y


class HalvingBlock(nn.Module):
    """conv - norm - ReLU - conv - norm, plus the averaged and projected input, then ReLU; halves the image."""

    def __init__(self, in_channels: int, width: int, *, folded: bool) -> None:
        super().__init__()
        self.first = ConvNorm(in_channels, width, 3, stride=2, folded=folded)
        self.second = ConvNorm(width, width, 3, folded=folded)
        self.shortcut = ConvNorm(in_channels, width, 1, folded=folded)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, H / 2, W / 2)
        """One block."""
        residual = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(residual + self.shortcut(F.avg_pool2d(x, 2)), inplace=True)


class CompactNetwork(nn.Module):
    """Stem, three halving blocks, 1 x 1 convolution to 512 channels, ReLU, global average.

    Args:
        folded: False for training, with batch normalisation; True for use, see `fold`.
    """

    def __init__(self, *, folded: bool = False) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_WIDTH, 3, folded=folded)
        pairs = pairwise((STEM_WIDTH, *BLOCK_WIDTHS))
        self.blocks = nn.Sequential(*(HalvingBlock(before, after, folded=folded) for before, after in pairs))
        self.top = ConvNorm(BLOCK_WIDTHS[-1], FEATURE_DIM, 1, folded=folded)

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images.

        Args:
            images: (B, 3, H, W) float, height and width divisible by 8; made for 32.

        Returns:
            (B, 512), 0 or more.
        """
        maps = self.top(self.blocks(F.relu(self.stem(images), inplace=True)))
        return F.relu(maps, inplace=True).mean(dim=(2, 3))


def fold(network: CompactNetwork) -> CompactNetwork:
    """A copy for use: normalisation with its running statistics becomes part of the convolutions.

    Args:
        network: a trained one, not folded; left as it is.

    Returns:
        A folded network in eval mode, equal up to rounding to the given one in eval mode.
    """
    trained = copy.deepcopy(network).eval()
    folded = CompactNetwork(folded=True).to(trained.stem.conv.weight.device)
    pairs = zip(_convolutions(trained), _convolutions(folded), strict=True)
    for ours, theirs in pairs:
        assert isinstance(ours.norm, nn.BatchNorm2d), "the network is folded already"
        theirs.conv.load_state_dict(fuse_conv_bn_eval(ours.conv, ours.norm).state_dict())
    return folded.eval()


def _convolutions(network: CompactNetwork) -> list[ConvNorm]:
    return [module for module in network.modules() if isinstance(module, ConvNorm)]
