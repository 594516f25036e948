"""Moving average of a network's weights."""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """An averaged copy of a network: weights and batch statistics; counters are copied.

    The decay starts low, min(decay, (1 + step) / (10 + step)), so that the initial weights are forgotten.

    Args:
        network: what to follow; it is copied now.
        decay: largest share of the old average kept by an update.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        averages, values = self.network.state_dict(), network.state_dict()
        pairs = [(averages[name], values[name]) for name in averages]
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self, step: int) -> None:
        """Move towards the network's weights after optimiser step `step` (0, 1, ...)."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            if self._averaged:
                averages: list[Tensor] = [average for average, _ in self._averaged]
                torch._foreach_lerp_(averages, [value for _, value in self._averaged], share)
            for average, value in self._copied:
                average.copy_(value)
