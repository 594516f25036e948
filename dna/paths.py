"""Paths that a training step takes through a block.

Source: Li et al., CVPR 2020; released code (uniform sampling, never seeded; a fair sampler that is not connected).
"""

from typing import Literal

import torch

from common.experiment.seeds import generator
from dna.archs import OPS

Sampler = Literal["uniform", "fair"]


def sample_paths(sampler: Sampler, num_layers: int, count: int, seed: int, *stream: int) -> list[tuple[int, ...]]:
    """Paths of one step.

    Args:
        sampler: "uniform" draws every op on its own; "fair" draws groups of six paths, in each of which every op of
            every layer occurs once.
        num_layers: ops of a path.
        count: how many; a multiple of six for "fair".
        seed: the run's.
        stream: what the step is, such as stage, cell, epoch, step and rank; equal streams give equal paths.
    """
    draws = generator(seed, "paths", *stream)
    if sampler == "uniform":
        ops = torch.randint(len(OPS), (count, num_layers), generator=draws)
    else:
        groups = [
            torch.stack([torch.randperm(len(OPS), generator=draws) for _ in range(num_layers)], dim=1)
            for _ in range(count // len(OPS))
        ]
        ops = torch.cat(groups)
    return [tuple(path) for path in ops.tolist()]
