"""The teacher of the compact network: SqueezeNet 1.0 with ImageNet weights, averaged over its last maps.

Source: Iandola et al. 2016.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.store.released import read_released

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FEATURE_DIM = 512
SMALLEST = 32
"""Images below this many pixels leave no map at the end."""


class SqueezeNetFeatures(nn.Module):
    """SqueezeNet without its classifier, frozen.

    Args:
        network: torchvision's squeezenet1_0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.maps = network.get_submodule("features")
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.to(memory_format=torch.channels_last).requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor, resolution: int, *, bf16: bool = False) -> Tensor:
        """Features of images that are enlarged (or shrunk) first.

        Args:
            images: (B, 3, H, W), RGB, in 0..255.
            resolution: height and width the network sees, 32 or more.
            bf16: compute in bfloat16, which takes half of the time on CPUs with such units.

        Returns:
            (B, 512) float32, 0 or more.
        """
        pixels = resize(images.float(), resolution)
        pixels = ((pixels / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            maps: Tensor = self.maps(pixels)
        return maps.float().mean(dim=(2, 3))


def resize(images: Tensor, resolution: int) -> Tensor:
    """Square images brought to another size, bilinear, with antialias where they shrink.

    Args:
        images: (B, C, H, W) float.
        resolution: height and width of the result in pixels.

    Returns:
        (B, C, resolution, resolution) float.
    """
    size = (resolution, resolution)
    if images.shape[2:] == size:
        return images
    shrinks = images.shape[2] > resolution
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def load_squeezenet(file: Path) -> SqueezeNetFeatures:
    """The teacher with the weights of a file, on the CPU.

    Args:
        file: arrays (.npz) by the names of torchvision's parameters, or the .pth file of torchvision.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged or holds another network.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"there are no SqueezeNet weights at {file}: run `python -m download.features --name squeezenet1_0` and "
            "give the file with --teacher"
        )
    from torchvision.models import squeezenet1_0

    network: nn.Module = squeezenet1_0(weights=None)
    try:
        network.load_state_dict(_read(file))
    except (RuntimeError, OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RuntimeError(
            f"{file} does not hold the weights of squeezenet1_0 ({reason}): give another file"
        ) from error
    return SqueezeNetFeatures(network)


def _read(file: Path) -> Any:
    if file.suffix != ".npz":
        return read_released(file)
    with np.load(file, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name].astype(np.float32)) for name in archive}
