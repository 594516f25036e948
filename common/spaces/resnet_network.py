"""The residual network of DaSS: parameter-free shortcuts, free width in every block.

Source: Lee et al., ICLR 2023, student and teacher family of the released code.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

STAGE_STRIDES = (1, 2, 2, 2)


def match_shortcut(x: Tensor, num_channels: int, stride: int) -> Tensor:
    """The shortcut without parameters.

    Args:
        x: (B, C, H, W).
        num_channels: channels asked for. More than C: zeros are appended; fewer: the last ones are dropped.
        stride: 1, or 2 for a 2x2 max-pool.

    Returns:
        (B, num_channels, H / stride, W / stride).
    """
    x = x[:, :num_channels]
    if stride == 2:
        x = F.max_pool2d(x, 2)  # before the padding: zeros stay zeros, and need no pooling
    missing = num_channels - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x


class ResidualBlock(nn.Module):
    """conv - BN - ReLU - conv - BN, plus the shortcut, then ReLU."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, width, H / stride, W / stride)
        """One block."""
        residual = F.relu(self.bn1(self.conv1(x)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + match_shortcut(x, residual.shape[1], self.stride))


class ResidualNetwork(nn.Module):
    """Stem, four stages of residual blocks, global average pool, linear.

    Args:
        widths: for each of the four stages the widths of its blocks; the stem has the width of the first block.
        num_classes: outputs.

    Raises:
        ValueError: not four stages, an empty stage, or (at the forward pass) an image size not divisible by 8.
    """

    def __init__(self, widths: Sequence[Sequence[int]], num_classes: int) -> None:
        super().__init__()
        if len(widths) != len(STAGE_STRIDES) or not all(widths):
            raise ValueError(f"a residual network needs four stages of at least one block, got widths {widths}")
        self.widths = tuple(tuple(stage) for stage in widths)
        channels = self.widths[0][0]
        self.conv1 = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for index, (stage, stride) in enumerate(zip(self.widths, STAGE_STRIDES, strict=True), start=1):
            blocks = []
            for position, width in enumerate(stage):
                blocks.append(ResidualBlock(channels, width, stride if position == 0 else 1))
                channels = width
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features_and_logits(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The five maps (stem, stages 1 to 4, all after ReLU) and the logits, from one forward pass.

        Args:
            images: (B, 3, R, R), R divisible by 8.
        """
        if images.shape[-1] % 8 or images.shape[-2] % 8:
            raise ValueError(f"image size {tuple(images.shape[-2:])} is not divisible by 8; use for example 32 or 64")
        maps = [F.relu(self.bn1(self.conv1(images)))]
        for index in range(1, len(STAGE_STRIDES) + 1):
            maps.append(self.get_submodule(f"layer{index}")(maps[-1]))
        return maps, self.fc(maps[-1].mean((-2, -1)))

    def features(self, images: Tensor) -> list[Tensor]:
        """The five maps alone; see `features_and_logits`."""
        return self.features_and_logits(images)[0]

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, num_classes)
        """Logits."""
        return self.features_and_logits(images)[1]
