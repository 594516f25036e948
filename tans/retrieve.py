"""Exact search for the nearest networks, within bounds on what they cost.

Source: Jeong et al., NeurIPS 2021, section 3 (retrieval); the bounds and the index are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.experiment.config import UsageError
from tans.vectors import Rows
from tans.zoo import ZooTable

Selection = Literal["predictor", "top1", "official"]
_CHUNK = 131_072
_FINALISTS = 3


class Infeasible(UsageError):
    """No network of the zoo is within the bounds."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a network may cost at most, its new classifier included; none bounds nothing."""

    max_params: int | None = None
    """Parameters."""
    max_macs: int | None = None
    """Multiply-accumulates of one image at the zoo's resolution."""
    max_latency_ms: float | None = None
    """Latency as the zoo has it; networks without one are left out."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("max_params", "max_macs", "max_latency_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be positive, or none for no bound")

    @property
    def is_bounded(self) -> bool:
        """Whether there is any."""
        return not (self.max_params is None and self.max_macs is None and self.max_latency_ms is None)


def feasible(table: ZooTable, bounds: Bounds, num_classes: int) -> Tensor:
    """Which networks are within the bounds with a classifier for so many classes.

    Returns:
        (N,) bool, with one true at least.

    Raises:
        Infeasible: none is; the message names the bound that rules out most, and the least that there is.
    """
    costs = {
        "max_params": table.num_params + (table.feature_dim + 1) * num_classes,
        "max_macs": table.macs + table.feature_dim * num_classes,
        "max_latency_ms": table.latency_ms.nan_to_num(torch.inf),
    }
    within = {name: cost <= getattr(bounds, name) for name, cost in costs.items() if getattr(bounds, name) is not None}
    mask = torch.ones(len(table), dtype=torch.bool)
    for one in within.values():
        mask &= one
    if not mask.any():
        name = min(within, key=lambda bound: int(within[bound].sum()))
        flag = name.replace("_", "-")
        raise Infeasible(
            f"no network of the zoo is within the bounds: --bounds.{flag} {getattr(bounds, name):,} leaves "
            f"{int(within[name].sum())} of {len(table)}; the smallest has {float(costs[name].min()):,.0f}"
        )
    return mask


class ExactIndex:
    """All vectors, searched by a product with the query, chunk after chunk.

    Args:
        parts: (n, D) arrays mapped into memory, or tensors, which together hold all vectors in order.
        device: where to compute; on a GPU the vectors are moved there once.
        chunk: vectors that are compared at once.

    Raises:
        ValueError: there is no vector.
    """

    def __init__(
        self, parts: Sequence[Rows | Tensor], *, device: torch.device | None = None, chunk: int = _CHUNK
    ) -> None:
        self.device = device or torch.device("cpu")
        tensors = [part if isinstance(part, Tensor) else torch.from_numpy(part) for part in parts]
        pieces = [piece for tensor in tensors for piece in torch.split(tensor, chunk)]
        self._pieces = [piece.to(self.device) for piece in pieces if len(piece)]
        self._num = sum(map(len, self._pieces))
        if self._num == 0:
            raise ValueError("an index needs at least one vector")

    def __len__(self) -> int:
        return self._num

    @torch.inference_mode()
    def search(self, queries: Tensor, num: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The vectors with the largest products.

        Args:
            queries: (Q, D).
            num: how many for each query; fewer come back where fewer are allowed.
            mask: (N,) bool, which vectors are allowed.

        Returns:
            Products (Q, k), falling, and places (Q, k) int64, both on the CPU.

        Raises:
            ValueError: num is below 1 or no vector is allowed.
        """
        allowed = len(self) if mask is None else int(mask.sum())
        if num < 1 or allowed == 0:
            raise ValueError(f"{num} of {allowed} vectors are asked for: at least 1 of at least 1 is needed")
        wanted, start = queries.to(self.device), 0
        best = torch.empty(len(queries), 0, device=self.device)
        places = torch.empty(len(queries), 0, dtype=torch.int64, device=self.device)
        for piece in self._pieces:
            products = wanted @ piece.T if len(wanted) > 1 else (piece @ wanted[0])[None]
            if mask is not None:
                products.masked_fill_(~mask[start : start + len(piece)].to(self.device), -torch.inf)
            top = products.topk(min(num, len(piece)), dim=1)
            best = torch.cat([best, top.values], 1)
            places = torch.cat([places, top.indices + start], 1)
            if best.shape[1] > num:
                best, kept = best.topk(num, dim=1)
                places = places.gather(1, kept)
            start += len(piece)
        best, order = best.sort(dim=1, descending=True, stable=True)
        num = min(num, allowed)
        return best[:, :num].cpu(), places.gather(1, order)[:, :num].cpu()


def select(predicted: Sequence[float], selection: Selection) -> list[int]:
    """Which of the retrieved networks to train, as places among them.

    Args:
        predicted: predicted accuracy of each, nearest first.
        selection: predictor: the one with the highest; top1: the nearest; official: the nearest, then of the three
            with the highest those that remain, the lowest first.

    Returns:
        One place, or with official up to four.

    Raises:
        ValueError: nothing is retrieved.

    Source: Jeong et al., NeurIPS 2021, released code (`meta_test`), for official.
    """
    if not predicted:
        raise ValueError("nothing is retrieved: there is no network to select")
    rising = sorted(range(len(predicted)), key=lambda place: predicted[place])
    if selection == "predictor":
        return [max(range(len(predicted)), key=lambda place: (predicted[place], -place))]
    if selection == "top1":
        return [0]
    return [0, *(place for place in rising[-_FINALISTS:] if place != 0)]
