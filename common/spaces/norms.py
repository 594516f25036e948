"""Statistics of batch normalisation, measured on images.

Source: Cai et al., ICLR 2020, released code.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = nn.BatchNorm1d | nn.BatchNorm2d


class _Measured:
    """Sums over batches of one layer's mean and variance, each batch weighted by its images."""

    def __init__(self) -> None:
        self.num_images = 0
        self.mean: Tensor | float = 0.0
        self.var: Tensor | float = 0.0

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        """Measure the input, and give it out normalised by its own statistics."""
        x, layer = inputs[0], cast(Norm, norm)
        stored = cast(Tensor, layer.running_mean)  # of more precision than the input under autocast
        var, mean = torch.var_mean(x.to(stored.dtype), [axis for axis in range(x.ndim) if axis != 1], correction=0)
        self.num_images += len(x)
        self.mean, self.var = self.mean + len(x) * mean, self.var + len(x) * var
        scale, shift = (layer.weight[: x.shape[1]], layer.bias[: x.shape[1]]) if layer.affine else (None, None)
        return F.batch_norm(x, mean, var, scale, shift, False, 0.0, layer.eps)

    def store(self, layer: Norm) -> None:
        """Replace the layer's statistics, of the leading channels where its inputs were narrower."""
        for stored, total in ((layer.running_mean, self.mean), (layer.running_var, self.var)):
            assert isinstance(stored, Tensor)
            assert isinstance(total, Tensor)
            stored[: len(total)] = total / self.num_images


@torch.no_grad()
def estimate_norms(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by those of the given images, as a part cut out of a supernet needs.

    Mean and (biased) variance of a layer's inputs are averaged over the batches, each weighted by its images. Layers
    see inputs that the layers before them normalise by the batch's own statistics; dropout is off. In a supernet only
    the active network's part of the statistics changes.

    Args:
        network: left in the mode that it had.
        batches: (B, 3, R, R) each, normalised, on the network's device.

    Raises:
        ValueError: no images, which leaves the network as it was.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    layers = [norm for norm in norms if norm.running_mean is not None]
    measured = [_Measured() for _ in layers]
    hooks = [layer.register_forward_hook(one) for layer, one in zip(layers, measured, strict=True)]
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    num_images = 0
    try:
        for images in batches:
            num_images += len(images)
            if len(images):
                network(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    if not num_images:
        raise ValueError("no images are given: statistics of batch normalisation need at least one batch")
    for layer, one in zip(layers, measured, strict=True):
        if one.num_images:
            one.store(layer)
