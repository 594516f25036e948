"""Score cells on a dataset with a predictor, and order them.

Source: Lee et al., ICLR 2021, released code (predictor.py). There every cell is scored on draws of its own; here
all are scored on the same ones, which are encoded once: the same estimate, with less noise between cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.spaces.nasbench201 import Cell, NasBench201Space
from metad2a.predictor import Predictor

_AT_ONCE = 1024  # graphs whose states are held together


@torch.no_grad()
def score_cells(model: Predictor, sets: Tensor, cells: Sequence[Cell]) -> Tensor:
    """Mean score of each cell over draws of a dataset.

    Args:
        model: in eval mode.
        sets: (draws, C, S, D) features, on the model's device.
        cells: M cells.

    Returns:
        (M,) float32 on the CPU.

    Raises:
        RuntimeError: a score is not finite.
    """
    encoded = model.encode_sets(sets)[:, None]
    graphs = NasBench201Space().graphs(cells).to(sets.device)
    parts = [
        model.score(encoded, model.encode_graphs(graphs[start : start + _AT_ONCE])).mean(0)
        for start in range(0, len(cells), _AT_ONCE)
    ]
    scores = torch.cat(parts).cpu()
    if not torch.isfinite(scores).all():
        raise RuntimeError("scores are not finite: the predictor or the features hold bad values")
    return scores


def best_first(scores: Tensor) -> Tensor:
    """(M,) indices from the best score to the worst; equal scores stay in their order."""
    return scores.argsort(descending=True, stable=True)
