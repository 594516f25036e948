"""The supernet: for each stage and cell a block whose layers offer six ops, between widths of the teacher.

A block maps the teacher's feature before its stage to that after it, so blocks are trained and rated alone. All layers
but the last have the width of the cell; the last one has the teacher's, so that nothing has to adapt widths. Blocks of
the first stage begin with a stem of their own and take images.

Names of the parts are those of the released supernet. It holds a head and a classifier as well, which nothing trains;
they are left out here.

Source: Li et al., CVPR 2020; released code, student_supernet.py and operations.py.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.experiment.seeds import derive_seed
from dna.archs import EXPANSIONS, KERNELS, NUM_STAGES, OPS, Skeleton
from dna.space import BlockSpace

_SQUEEZE = 0.25
"""Width of the squeezed channels over that of a layer's input."""


class SqueezeExcite(nn.Module):
    """Gates of channels from their means."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(width, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        means = features.mean((2, 3), keepdim=True)
        gates: Tensor = self.conv_expand(F.silu(self.conv_reduce(means))).sigmoid()
        return features * gates


class InvertedResidual(nn.Module):
    """One op: expand, filter each channel, squeeze and excite, project; no activation at the end.

    Widths inside are not rounded to multiples of 8, unlike in timm.

    Args:
        in_width: input channels.
        out_width: output channels.
        kernel: side of the depthwise convolution, odd.
        expansion: width inside over that of the input.
        stride: of the depthwise convolution.
    """

    def __init__(self, in_width: int, out_width: int, *, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = in_width * expansion
        self.conv_pw = nn.Conv2d(in_width, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.se = SqueezeExcite(inner, max(1, int(in_width * _SQUEEZE)))
        self.conv_pwl = nn.Conv2d(inner, out_width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_width)
        self.has_skip = in_width == out_width and stride == 1

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_width, H, W) to (B, out_width, ceil(H / stride), ceil(W / stride))."""
        inner = F.silu(self.bn1(self.conv_pw(features)))
        inner = F.silu(self.bn2(self.conv_dw(inner)))
        output: Tensor = self.bn3(self.conv_pwl(self.se(inner)))
        return output + features if self.has_skip else output


class ConvNorm(nn.Module):
    """A 3x3 convolution with its normalisation and activation."""

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, out_width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_width, H, W) to (B, out_width, H', W')."""
        return F.silu(self.bn1(self.conv(images)))


class DepthwiseSeparable(nn.Module):
    """The fixed layer after the first convolution: an op without expansion and without a skip."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(in_width, in_width, 3, 1, 1, groups=in_width, bias=False)
        self.bn1 = nn.BatchNorm2d(in_width)
        self.se = SqueezeExcite(in_width, max(1, int(in_width * _SQUEEZE)))
        self.conv_pw = nn.Conv2d(in_width, out_width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_width)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_width, H, W) to (B, out_width, H, W)."""
        inner = F.silu(self.bn1(self.conv_dw(features)))
        output: Tensor = self.bn2(self.conv_pw(self.se(inner)))
        return output


class Block(nn.Module):
    """A cell of a stage: layers of six ops, of which a path takes one each.

    Args:
        widths: input channels, then the output channels of every layer.
        stride: of the first layer.
        stem: what comes before the layers; the first stage's only.
    """

    def __init__(self, widths: Sequence[int], stride: int, stem: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Identity() if stem is None else stem
        self.layers = nn.ModuleList()
        for index, (in_width, out_width) in enumerate(pairwise(widths)):
            ops = [
                InvertedResidual(
                    in_width, out_width, kernel=kernel, expansion=expansion, stride=stride if index == 0 else 1
                )
                for kernel, expansion in zip(KERNELS, EXPANSIONS, strict=True)
            ]
            self.layers.append(nn.ModuleList(ops))

    @property
    def num_paths(self) -> int:
        """Choices of one op for every layer."""
        return int(len(OPS) ** len(self.layers))

    def op(self, layer: int, op: int) -> nn.Module:
        """One candidate."""
        ops = self.layers[layer]
        assert isinstance(ops, nn.ModuleList)
        return ops[op]

    def forward(self, features: Tensor, path: Sequence[int]) -> Tensor:
        """Feature of the teacher before the stage (the image, for the first) to an estimate of that after it.

        Args:
            features: (B, C, H, W).
            path: an op for every layer.
        """
        output: Tensor = self.stem(features)
        for layer, op in enumerate(path):
            output = self.op(layer, op)(output)
        return output


class Supernet(nn.Module):
    """The blocks of all cells of all stages, with weights drawn from a stream of their own each.

    Args:
        space: stages and cells.
        teacher_widths: channels of the teacher's six features.
        seed: of the weights.
    """

    def __init__(self, space: BlockSpace, teacher_widths: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        if len(teacher_widths) != NUM_STAGES:
            raise ValueError(f"teacher widths {tuple(teacher_widths)}: give {NUM_STAGES}")
        self.blocks = nn.ModuleList()
        in_widths = (space.skeleton.first_width, *teacher_widths[:-1])
        for stage, cells in enumerate(space.stages()):
            blocks = nn.ModuleList()
            for index, cell in enumerate(cells):
                hidden = [cell.width] * (cell.num_layers - 1)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive_seed(seed, "block", stage, index))
                    stem = build_stem(space.skeleton) if stage == 0 else None
                    widths = [in_widths[stage], *hidden, teacher_widths[stage]]
                    blocks.append(Block(widths, space.skeleton.strides[stage], stem))
            self.blocks.append(blocks)

    def block(self, stage: int, cell: int = 0) -> Block:
        """The block of a cell."""
        blocks = self.blocks[stage]
        assert isinstance(blocks, nn.ModuleList)
        block = blocks[cell]
        assert isinstance(block, Block)
        return block


def build_stem(skeleton: Skeleton) -> nn.Sequential:
    """First convolution and the fixed layer after it."""
    return nn.Sequential(
        ConvNorm(3, skeleton.stem_width, skeleton.stem_stride),
        DepthwiseSeparable(skeleton.stem_width, skeleton.first_width),
    )
