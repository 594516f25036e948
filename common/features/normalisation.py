"""Channel means and deviations of a dataset: published ones, else computed from its training images."""

import torch
from torch import Tensor

Statistics = tuple[Tensor, Tensor]
"""Mean and standard deviation of each channel, (3,) float32, of pixels in [0, 1]."""

_Triple = tuple[float, float, float]

_IMAGENET_32: tuple[_Triple, _Triple] = (
    (122.68 / 255, 116.66 / 255, 104.01 / 255),
    (66.22 / 255, 64.20 / 255, 67.86 / 255),
)

PUBLISHED: dict[str, tuple[_Triple, _Triple]] = {
    "cifar10": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    "cifar100": ((129.3 / 255, 124.1 / 255, 112.4 / 255), (68.2 / 255, 65.4 / 255, 70.4 / 255)),
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
    "svhn": ((0.4376821, 0.4437697, 0.47280442), (0.19803012, 0.20101562, 0.19703614)),
    "tiny_imagenet": _IMAGENET_32,
}
"""Name of a set to its mean and deviation. Tiny ImageNet stands for ImageNet at 32 px and takes its constants.

Source: Lee et al., ICLR 2021 (MetaD2A), released code, process_dataset.py.
"""

_LEAST_DEVIATION = 1 / 255  # a channel that never changes must not be divided by zero


def published_statistics(name: str) -> Statistics | None:
    """Published mean and deviation of a known set, or None.

    Args:
        name: canonical name of a known set.
    """
    found = PUBLISHED.get(name)
    return None if found is None else (torch.tensor(found[0]), torch.tensor(found[1]))


def channel_statistics(images: Tensor) -> Statistics:
    """Mean and standard deviation of each channel over all pixels.

    Args:
        images: (N, 3, H, W) uint8, N at least 1.

    Returns:
        Of pixels in [0, 1]; a deviation is never below one of 255 levels.

    Raises:
        ValueError: there is no image.
    """
    if len(images) == 0:
        raise ValueError("channel statistics need at least one image")
    num_channels = images.shape[1]
    counts = torch.stack(  # exact integers: neither order nor number of images costs accuracy
        [torch.bincount(images[:, channel].flatten(), minlength=256) for channel in range(num_channels)]
    ).double()
    shares = counts / counts.sum(dim=1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]).square()).sum(dim=1)
    return mean.float(), variance.sqrt().clamp(min=_LEAST_DEVIATION).float()
