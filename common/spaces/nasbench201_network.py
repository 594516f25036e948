"""The network around a NAS-Bench-201 cell: a stem, and three stages of equal cells with residual blocks between them.

Source: Dong and Yang, ICLR 2020, section 2 and released code.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
PLAIN = ("none", "skip_connect", "avg_pool_3x3")
"""Operations without weights."""


def conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias that keeps the size (but for the stride), then batch normalisation."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class CellBlock(nn.Module):
    """A cell: node i is the sum of the operations on its edges j -> i; the last node is the output.

    The rectification before a convolution and the pooling depend on the source alone, so what several edges of a node
    share is computed once. `none` adds nothing; a node with no other edge is zero.

    Args:
        edges: (source, target, operation), with every source below its target.
        channels: of the input and of every node.

    Raises:
        ValueError: an unknown operation, or an edge that does not point forward.
    """

    def __init__(self, edges: Iterable[tuple[int, int, str]], channels: int) -> None:
        super().__init__()
        self.edges = tuple(edges)
        self.num_nodes = 1 + max((target for _, target, _ in self.edges), default=0)
        self.convs = nn.ModuleDict()
        for source, target, operation in self.edges:
            if operation not in (*KERNELS, *PLAIN):
                raise ValueError(f"unknown operation {operation!r}: known are {', '.join((*PLAIN, *KERNELS))}")
            if not 0 <= source < target:
                raise ValueError(f"edge {source} -> {target} of a cell does not point forward")
            if operation in KERNELS:
                self.convs[f"{source}_{target}"] = conv_norm(channels, channels, KERNELS[operation])

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The last node."""
        nodes, rectified, pooled = {0: x}, dict[int, Tensor](), dict[int, Tensor]()
        for node in range(1, self.num_nodes):
            total: Tensor | None = None
            for source, target, operation in self.edges:
                if target != node or operation == "none":
                    continue
                if operation in KERNELS:
                    if source not in rectified:
                        rectified[source] = F.relu(nodes[source])
                    term = self.convs[f"{source}_{target}"](rectified[source])
                elif operation == "avg_pool_3x3":
                    if source not in pooled:
                        pooled[source] = F.avg_pool2d(nodes[source], 3, 1, 1, count_include_pad=False)
                    term = pooled[source]
                else:
                    term = nodes[source]
                total = term if total is None else total + term
            nodes[node] = torch.zeros_like(x) if total is None else total
        return nodes[self.num_nodes - 1]


class DownBlock(nn.Module):
    """Two rectified 3x3 convolutions, the first of stride 2 to twice the channels, plus a pooled 1x1 shortcut."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        width = 2 * in_channels
        self.conv1 = conv_norm(in_channels, width, 3, stride=2)
        self.conv2 = conv_norm(width, width, 3)
        self.shortcut = nn.Conv2d(in_channels, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 2C, H / 2, W / 2)
        """One block."""
        residual: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        shortcut: Tensor = self.shortcut(F.avg_pool2d(x, 2))
        return residual + shortcut


class CellNetwork(nn.Module):
    """Stem, N cells of width C, residual block, N cells of 2C, residual block, N cells of 4C, global pool, linear.

    Convolutions into a node from which only `none` leads on are computed, but their weights get no gradient (one of
    zero in the released code).

    Args:
        edges: (source, target, operation) of the cell, equal everywhere.
        num_classes: outputs.
        channels: C.
        cells_per_stage: N.

    Raises:
        ValueError: an unknown operation, or (at the forward pass) an image size not divisible by 4.
    """

    def __init__(
        self, edges: Sequence[tuple[int, int, str]], num_classes: int, *, channels: int = 16, cells_per_stage: int = 5
    ) -> None:
        super().__init__()
        self.stem = conv_norm(3, channels, 3)
        stages: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            stages += [DownBlock(width // 2)] if stage else []
            stages += [CellBlock(edges, width) for _ in range(cells_per_stage)]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(4 * channels)
        self.fc = nn.Linear(4 * channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, num_classes)
        """Logits."""
        if images.shape[-1] % 4 or images.shape[-2] % 4:
            raise ValueError(f"image size {tuple(images.shape[-2:])} is not divisible by 4; use for example 32")
        last = F.relu(self.norm(self.stages(self.stem(images))))
        logits: Tensor = self.fc(last.mean((-2, -1)))
        return logits


def check_resolution(resolution: int) -> None:
    """Refuse an image size that the two halvings would cut unevenly.

    Raises:
        ValueError: the resolution is not a positive multiple of 4.
    """
    if resolution <= 0 or resolution % 4:
        raise ValueError(f"resolution {resolution} is not a positive multiple of 4; use for example 32")
