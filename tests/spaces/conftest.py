"""What several tests of spaces measure with."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from common.spaces import Cost, SearchSpace

Count = Callable[[SearchSpace, object, int, int], Cost]


@pytest.fixture
def counted() -> Count:
    """Cost of a built network: its parameters, and the MACs that hooks see during one image's forward pass."""

    def measure(space: SearchSpace, arch: object, num_classes: int, resolution: int) -> Cost:
        with torch.device("meta"):
            network = space.build(arch, num_classes, resolution).eval()
        macs = 0

        def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal macs
            assert isinstance(module, nn.Conv2d | nn.Linear)
            macs += output.numel() * module.weight[0].numel()

        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        network(torch.empty(1, 3, resolution, resolution, device="meta"))
        return Cost(num_params=sum(parameter.numel() for parameter in network.parameters()), macs=macs)

    return measure
