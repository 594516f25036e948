"""ShuffleNetV2 for small images, and its maps for feature distillation.

Source: Ma et al., ECCV 2018; MFKD, released code (1x1 stem without pooling, taps, names of the weights).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM = 24
NUM_STAGES = 3
TAPS = ("stem", "stage1", "stage2", "stage3", "pooled")
"""Names of the maps of `features_and_logits`; the last is a vector for each image."""


def shuffle_channels(x: Tensor) -> Tensor:  # (B, C, H, W), C even
    """Interleave the first and the second half of the channels."""
    batch, channels, height, width = x.shape
    halves = x.reshape(batch, 2, channels // 2, height, width)
    return halves.transpose(1, 2).reshape(batch, channels, height, width)


class DownUnit(nn.Module):
    """Two branches of stride 2 side by side: half the size, `outputs` channels, shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, ceil(H / 2), ceil(W / 2))
        """One unit."""
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = F.relu(self.bn3(self.conv3(x)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return shuffle_channels(torch.cat([left, right], 1))


class SplitUnit(nn.Module):
    """The first half of the channels passes, the second is convolved, then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The half that passes, and the other before its last ReLU; (B, C / 2, H, W) each."""
        passed, other = x.chunk(2, 1)
        other = F.relu(self.bn1(self.conv1(other)))
        return passed, self.bn3(self.conv3(self.bn2(self.conv2(other))))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """One unit."""
        return join_halves(*self.halves(x))


def join_halves(passed: Tensor, other: Tensor) -> Tensor:
    """End of a split unit: ReLU on the convolved half, then the shuffle."""
    return shuffle_channels(torch.cat([passed, F.relu(other)], 1))


class ShuffleNetV2(nn.Module):
    """1x1 stem, three stages of one down unit and some split units, last convolution, average, linear.

    The published average pool of 4 is the global one at its 32x32 images; here it is global at every size.

    Args:
        out_channels: of the three stages and of the last convolution, the stages' even.
        num_blocks: split units of the three stages.
        num_classes: outputs.
        preact: whether the maps of the stages are those before the last ReLU and shuffle.

    Raises:
        ValueError: not four widths and three depths, an odd stage, a number below 1.
    """

    def __init__(
        self, out_channels: Sequence[int], num_blocks: Sequence[int], num_classes: int, *, preact: bool = False
    ) -> None:
        super().__init__()
        if len(out_channels) != NUM_STAGES + 1 or len(num_blocks) != NUM_STAGES:
            raise ValueError(f"out_channels {out_channels}, num_blocks {num_blocks}: four and three are needed")
        if min(*out_channels, *num_blocks, num_classes) < 1 or any(width % 2 for width in out_channels[:NUM_STAGES]):
            raise ValueError(
                f"out_channels {out_channels}, num_blocks {num_blocks}, num_classes {num_classes}: "
                "positive numbers and even widths of the stages are needed"
            )
        self.preact = preact
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        inputs = STEM
        for stage, (outputs, blocks) in enumerate(zip(out_channels, num_blocks, strict=False), start=1):
            units = [DownUnit(inputs, outputs), *(SplitUnit(outputs) for _ in range(blocks))]
            self.add_module(f"layer{stage}", nn.Sequential(*units))
            inputs = outputs
        self.conv2 = nn.Conv2d(inputs, out_channels[-1], 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels[-1])
        self.linear = nn.Linear(out_channels[-1], num_classes)

    def features_and_logits(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps of `TAPS` and the logits, from one forward pass.

        Args:
            images: (B, 3, R, R), any R.

        Returns:
            Four maps (B, C, H, W), one vector (B, C), and logits (B, num_classes).
        """
        x = F.relu(self.bn1(self.conv1(images)))
        maps = [x]
        for stage in range(1, NUM_STAGES + 1):
            *units, last = self.get_submodule(f"layer{stage}").children()
            for unit in units:
                x = unit(x)
            assert isinstance(last, SplitUnit)
            passed, other = last.halves(x)
            x = join_halves(passed, other)
            maps.append(torch.cat([passed, other], 1) if self.preact else x)
        pooled = F.relu(self.bn2(self.conv2(x))).mean((2, 3))
        return [*maps, pooled], self.linear(pooled)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, num_classes)
        """Logits."""
        return self.features_and_logits(images)[1]
