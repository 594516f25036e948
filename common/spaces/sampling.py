"""Draw distinct architectures that satisfy a condition, such as bounds on their cost."""

from collections.abc import Callable, Collection
from typing import TypeVar

import torch

from common.spaces.base import SearchSpace

Arch = TypeVar("Arch")
_PATIENCE = 200  # draws for each architecture asked for, before the condition counts as too narrow


def sample_distinct(
    space: SearchSpace[Arch],
    num: int,
    generator: torch.Generator,
    *,
    accept: Callable[[Arch], bool] = lambda arch: True,
    exclude: Collection[Arch] = (),
) -> list[Arch]:
    """Draw until `num` distinct architectures are found or 200 draws for each of them are spent.

    Args:
        space: where from.
        num: how many.
        generator: source of randomness.
        accept: condition that each must satisfy.
        exclude: architectures that must not be drawn.

    Returns:
        Up to `num` distinct architectures, in the order of drawing.
    """
    found: dict[Arch, None] = {}
    budget = _PATIENCE * num
    while len(found) < num and budget > 0:
        batch = space.sample(min(num, budget), generator)
        budget -= len(batch)
        for arch in batch:
            if len(found) < num and arch not in found and arch not in exclude and accept(arch):
                found[arch] = None
    return list(found)


def within_bounds(
    space: SearchSpace[Arch],
    num_classes: int,
    resolution: int,
    *,
    max_params: int | None = None,
    max_macs: int | None = None,
) -> Callable[[Arch], bool]:
    """A condition for `sample_distinct`: at most so many parameters and multiply-accumulates; None means no bound.

    Args:
        space: whose costs count.
        num_classes: outputs of the networks.
        resolution: side of the images.
        max_params: largest number of learnable parameters.
        max_macs: largest number of multiply-accumulates for one image.

    Raises:
        ValueError: a bound that is not positive.
    """
    for name, bound in (("max_params", max_params), ("max_macs", max_macs)):
        if bound is not None and bound < 1:
            raise ValueError(f"{name} {bound}: a positive number or no bound is needed")

    def accept(arch: Arch) -> bool:
        cost = space.cost(arch, num_classes, resolution)
        return (max_params is None or cost.num_params <= max_params) and (max_macs is None or cost.macs <= max_macs)

    return accept
