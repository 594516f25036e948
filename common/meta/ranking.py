"""How well predictions rank: Spearman's rho, Kendall's tau-b, Pearson's r.

A correlation with a constant, or with a value that is not finite, is undefined. It counts as -1 here, so that a
predictor which tells nothing apart is never selected; `is_undefined` tells such a -1 from a measured one.
"""

import torch
from torch import Tensor

UNDEFINED = -1.0


def is_undefined(predicted: Tensor, measured: Tensor) -> bool:
    """Whether a correlation of the two does not exist: one is constant or holds a value that is not finite.

    Args:
        predicted: (n,).
        measured: (n,).

    Raises:
        ValueError: the two are not vectors of one length, or shorter than 2.
    """
    if predicted.dim() != 1 or predicted.shape != measured.shape or len(predicted) < 2:
        raise ValueError(
            f"a correlation needs two vectors of one length, at least 2; given {tuple(predicted.shape)} and "
            f"{tuple(measured.shape)}"
        )
    return any(not torch.isfinite(x).all() or bool((x == x[0]).all()) for x in (predicted, measured))


def pearson(predicted: Tensor, measured: Tensor) -> float:
    """Linear correlation, in [-1, 1]; -1 where undefined.

    Args:
        predicted: (n,).
        measured: (n,).

    Raises:
        ValueError: see `is_undefined`.
    """
    if is_undefined(predicted, measured):
        return UNDEFINED
    return _correlation(predicted.detach().cpu().double(), measured.detach().cpu().double())


def spearman(predicted: Tensor, measured: Tensor) -> float:
    """Rank correlation, ties sharing their mean rank; -1 where undefined. Arguments and errors as `pearson`."""
    if is_undefined(predicted, measured):
        return UNDEFINED
    return _correlation(_mean_ranks(predicted), _mean_ranks(measured))


def kendall(predicted: Tensor, measured: Tensor) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in opposite order, corrected for ties; -1 where undefined.

    Takes memory of n**2 bytes, for n up to some ten thousand. Arguments and errors as `pearson`.
    """
    if is_undefined(predicted, measured):
        return UNDEFINED
    first, second = (_pair_signs(x.detach().cpu()) for x in (predicted, measured))
    agreeing = (first * second).sum(dtype=torch.float64)
    untied = first.abs().sum(dtype=torch.float64) * second.abs().sum(dtype=torch.float64)
    return float(agreeing / untied.sqrt())


def _pair_signs(values: Tensor) -> Tensor:
    """(n, n) int8 order of every pair."""
    return (values[:, None] > values[None, :]).to(torch.int8) - (values[:, None] < values[None, :]).to(torch.int8)


def _mean_ranks(values: Tensor) -> Tensor:
    """(n,) float64 ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = torch.unique(values.detach().cpu(), return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = last - (counts.double() - 1) / 2
    return ranks[inverse]


def _correlation(first: Tensor, second: Tensor) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((first @ second / (first.norm() * second.norm())).clamp(-1, 1))
