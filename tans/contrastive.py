"""Losses of the cross-modal space.

Source: Jeong et al., NeurIPS 2021, released code (`retrieval/loss.py`).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Variant = Literal["official", "clean"]


def contrastive_loss(
    queries: Tensor,
    models: Tensor,
    *,
    margin: float = 0.2,
    max_negatives: int | None = None,
    variant: Variant = "official",
    is_symmetric: bool = True,
) -> Tensor:
    """Sum of hinge losses: a pair's cosine shall exceed that with every other network and dataset by a margin.

    With S the matrix of cosines and all negatives, the official variant is

        sum_{i != j} [margin + S_ij - S_ii]_+ + sum_{i != j} [margin + S_ij - S_jj]_+ + 2 sum_i [margin - S_ii]_+ ,

    the last sum being there because the released code writes 0 on the diagonal and then takes it for a negative.

    Args:
        queries: (B, D) unit vectors of datasets.
        models: (B, D) unit vectors of a network of each.
        margin: published as alpha.
        max_negatives: how many of the largest negatives of a row or column count; None takes all. Published as nmax.
        variant: official, or clean, which leaves the diagonal out.
        is_symmetric: both terms; without it only the one in which a dataset looks for its network (rows).

    Returns:
        Scalar, a sum over the batch.

    Raises:
        ValueError: the shapes differ, or fewer than one negative is asked for.

    Source: released code, `HardNegativeContrastiveLoss`.
    """
    if queries.shape != models.shape or queries.ndim != 2:
        raise ValueError(f"queries {tuple(queries.shape)} and models {tuple(models.shape)}: two of (B, D) are needed")
    if max_negatives is not None and max_negatives < 1:
        raise ValueError(f"max_negatives is {max_negatives}; it must be at least 1, or none for all")
    cosines = queries @ models.T
    positives = cosines.diagonal()
    on_diagonal = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    negatives = cosines.masked_fill(on_diagonal, 0.0 if variant == "official" else -torch.inf)
    total = F.relu(_largest(negatives, max_negatives, 1) + margin - positives[:, None]).sum()
    if is_symmetric:
        total = total + F.relu(_largest(negatives, max_negatives, 0) + margin - positives[None, :]).sum()
    return total


def _largest(negatives: Tensor, num: int | None, dim: int) -> Tensor:
    """The `num` largest along an axis, or all."""
    if num is None or num >= negatives.shape[dim]:
        return negatives
    return negatives.topk(num, dim=dim, sorted=False).values


def performance_loss(predicted: Tensor, accuracies: Tensor) -> Tensor:
    """Mean squared error of predicted accuracies, (B,) each."""
    return F.mse_loss(predicted, accuracies)
