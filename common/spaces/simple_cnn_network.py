"""The plain convolutional network of MFKD's example.

Source: MFKD in Vega 1.8, whose weights have the same names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

NUM_LAYERS = 3
TAPS = ("layer1", "layer2", "layer3")
"""Names of the maps of `features_and_logits`: what each layer gives, after its pool."""


@dataclass(frozen=True)
class CnnLayer:
    """One convolution: channels, odd kernel size, and what follows before the pool."""

    filters: int
    kernel_size: int
    bn: bool
    relu: bool


class SimpleCnn(nn.Module):
    """Three times convolution, batch norm and ReLU where wanted, 2x2 max-pool; then linear, ReLU, linear.

    Args:
        layers: three.
        output_unit: width of the hidden linear layer.
        num_classes: outputs.
        resolution: side of the images, a multiple of 8.

    Raises:
        ValueError: not three layers, an even kernel, a number below 1, a resolution that is no positive multiple of 8.
    """

    def __init__(self, layers: Sequence[CnnLayer], output_unit: int, num_classes: int, resolution: int) -> None:
        super().__init__()
        check_layers(layers)
        if output_unit < 1 or num_classes < 1:
            raise ValueError(f"output_unit {output_unit}, num_classes {num_classes}: at least 1 is needed")
        self.relus = tuple(layer.relu for layer in layers)
        widths = [3, *(layer.filters for layer in layers)]
        self.conv_layers = nn.ModuleList(
            nn.Conv2d(inputs, layer.filters, layer.kernel_size, padding=layer.kernel_size // 2)
            for inputs, layer in zip(widths, layers, strict=False)
        )
        self.bn_layers = nn.ModuleList(nn.BatchNorm2d(one.filters) if one.bn else nn.Identity() for one in layers)
        self.fc0 = nn.Linear(widths[-1] * final_side(resolution) ** 2, output_unit)
        self.fc1 = nn.Linear(output_unit, num_classes)

    def features_and_logits(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps of `TAPS` and the logits, from one forward pass.

        Args:
            images: (B, 3, resolution, resolution).
        """
        maps: list[Tensor] = []
        x = images
        for conv, norm, has_relu in zip(self.conv_layers, self.bn_layers, self.relus, strict=True):
            x = norm(conv(x))
            x = F.max_pool2d(F.relu(x) if has_relu else x, 2)
            maps.append(x)
        return maps, self.fc1(F.relu(self.fc0(x.flatten(1))))

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, num_classes)
        """Logits."""
        return self.features_and_logits(images)[1]


def check_layers(layers: Sequence[CnnLayer]) -> None:
    """Refuse layers that make no network.

    Raises:
        ValueError: not three layers, an even kernel or a number below 1.
    """
    if len(layers) != NUM_LAYERS:
        raise ValueError(f"{len(layers)} layers; three are needed")
    for layer in layers:
        if layer.filters < 1 or layer.kernel_size < 1 or layer.kernel_size % 2 == 0:
            raise ValueError(f"{layer}: positive filters and an odd kernel size are needed")


def final_side(resolution: int) -> int:
    """Side of the last map.

    Raises:
        ValueError: the resolution is no positive multiple of 8.
    """
    if resolution <= 0 or resolution % 8:
        raise ValueError(f"resolution {resolution} is not a positive multiple of 8; use for example 32 or 64")
    return resolution // 8
