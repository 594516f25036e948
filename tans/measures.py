"""How well datasets find networks of their own.

Source: Jeong et al., NeurIPS 2021, released code (`retrieval/measure.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from common.meta.ranking import pearson, spearman

RECALLS = (1, 5, 10, 50, 100)
"""Published; those beyond the number of networks are left out."""


def ranks_of(queries: Tensor, models: Tensor) -> Tensor:
    """Number of networks that are closer to each dataset than its own one.

    The released code sorts and breaks ties by index; without ties the two agree.

    Args:
        queries: (B, D) unit vectors of datasets.
        models: (B, D) unit vectors; network i belongs to dataset i.

    Returns:
        (B,) int64, from 0.
    """
    cosines = queries @ models.T
    return (cosines > cosines.diagonal()[:, None]).sum(1)


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Measures of ranks."""

    recall: Mapping[int, float]
    """k -> share of datasets, in [0, 1], that find their own network among the first k."""
    median_rank: float
    """From 1; rounded down, as published."""
    mean_rank: float
    """From 1."""


def measure_ranks(ranks: Tensor, num_models: int) -> Retrieval:
    """Recall, median and mean rank.

    Args:
        ranks: (n,) from 0.
        num_models: networks that each dataset was compared with.

    Raises:
        ValueError: there is no rank.
    """
    if len(ranks) == 0:
        raise ValueError("no dataset is given: measures need at least one rank")
    found = ranks.double()
    recall = {k: float((ranks < k).double().mean()) for k in RECALLS if k == 1 or k < num_models}
    return Retrieval(
        recall=recall,
        median_rank=float(found.quantile(0.5).floor()) + 1,
        mean_rank=float(found.mean()) + 1,
    )


def chance(num_models: int) -> Retrieval:
    """What random vectors give on average."""
    ranks = torch.arange(num_models)
    return measure_ranks(ranks, num_models)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted against measured accuracies."""

    squared_error: float
    pearson: float
    spearman: float


def measure_predictions(predicted: Tensor, accuracies: Tensor) -> Prediction:
    """Mean squared error and correlations of (n,) each; a correlation is -1 where it is undefined."""
    return Prediction(
        squared_error=float((predicted.double() - accuracies.double()).square().mean()),
        pearson=pearson(predicted, accuracies),
        spearman=spearman(predicted, accuracies),
    )
