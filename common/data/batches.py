"""Batches on the device: order, augmentation, normalisation."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(images: Tensor) -> Tensor:
    """Pixels in [0, 255] to floats in [-1, 1]: (x / 255 - 0.5) / 0.5.

    Args:
        images: uint8, any shape.

    Source: DaSS released code, get_dataloader.py.
    """
    return images.to(torch.float32).div_(255).sub_(0.5).mul_(2)


def augment(images: Tensor, generator: torch.Generator, *, padding: int, flip: bool) -> Tensor:
    """Mirror half of the images, then crop each at random out of a frame of zeros.

    Zeros are put around the images before normalisation, so that they become -1. The random numbers are drawn on the
    CPU, first 2 x B offsets (down, right) in 0..2 * padding where padding > 0, then B uniform numbers where flip: the
    same generator gives the same batch on every device.

    Args:
        images: (B, C, H, W) uint8.
        generator: on the CPU.
        padding: width of the frame in pixels, >= 0.
        flip: whether to mirror.

    Returns:
        (B, C, H, W) uint8; `images` itself where there is nothing to do.

    Raises:
        ValueError: negative padding.

    Source: DaSS released code, get_dataloader.py.
    """
    if padding < 0:
        raise ValueError(f"padding must be at least 0 pixels, got {padding}")
    if padding == 0 and not flip:
        return images
    batch, channels, height, width = images.shape
    device = images.device
    offsets = torch.zeros(2, batch, dtype=torch.int64)
    if padding:
        offsets = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
    mirrored = torch.rand(batch, generator=generator) < 0.5 if flip else torch.zeros(batch, dtype=torch.bool)
    down, right = offsets.to(device)
    framed_width = width + 2 * padding
    rows = down[:, None] + torch.arange(height, device=device)  # (B, H)
    columns = right[:, None] + torch.arange(width, device=device)  # (B, W)
    columns = torch.where(mirrored.to(device)[:, None], framed_width - 1 - columns, columns)
    places = (rows[:, :, None] * framed_width + columns[:, None, :]).flatten(1)  # (B, H * W)
    framed = F.pad(images, (padding, padding, padding, padding)).flatten(2)
    return framed.gather(2, places[:, None, :].expand(-1, channels, -1)).view(batch, channels, height, width)


def epoch_batches(num: int, batch_size: int, generator: torch.Generator, drop_last: bool) -> Iterator[Tensor]:
    """Indices 0..num-1 in random order, batch by batch.

    Args:
        num: number of images.
        batch_size: images in a batch.
        generator: on the CPU; one permutation is drawn from it when the first batch is asked for.
        drop_last: leave out a last batch that is not full.

    Yields:
        (batch_size,) int64; the last may be shorter.

    Raises:
        ValueError: the batch size is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = torch.randperm(num, generator=generator)
    stop = num - num % batch_size if drop_last else num
    yield from torch.split(order[:stop], batch_size) if stop else ()
