"""Score architectures on a dataset with a predictor, and order them.

Source: Lee et al., ICLR 2021, released code (predictor.py). There every one is scored on draws of its own; here
all are scored on the same ones, which are encoded once: the same estimate, with less noise between them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metad2a.predictor import Predictor

_AT_ONCE = 1024  # graphs whose states are held together


@torch.no_grad()
def score_archs(model: Predictor, sets: Tensor, space: Any, archs: Sequence[Any]) -> Tensor:
    """Mean score of each architecture over draws of a dataset.

    Args:
        model: in eval mode.
        sets: (draws, C, S, D) features, on the model's device.
        space: of the architectures; it gives their graphs.
        archs: M architectures.

    Returns:
        (M,) float32 on the CPU.

    Raises:
        RuntimeError: a score is not finite.
    """
    encoded = model.encode_sets(sets)[:, None]
    graphs = space.graphs(archs).to(sets.device)
    parts = [
        model.score(encoded, model.encode_graphs(graphs[start : start + _AT_ONCE])).mean(0)
        for start in range(0, len(archs), _AT_ONCE)
    ]
    scores = torch.cat(parts).cpu()
    if not torch.isfinite(scores).all():
        raise RuntimeError("scores are not finite: the predictor or the features hold bad values")
    return scores


def best_first(scores: Tensor) -> Tensor:
    """(M,) indices from the best score to the worst; equal scores stay in their order."""
    return scores.argsort(descending=True, stable=True)
