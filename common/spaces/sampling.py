"""Draw distinct architectures that satisfy a condition."""

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
