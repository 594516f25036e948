"""Grow a zoo where it helps most: the next networks to measure are those that raise the Pareto fronts most.

Source: Jeong et al., NeurIPS 2021, section on efficient model-zoo construction, as far as it is known: a network and
dataset are chosen by the expected rise of the hypervolume under the dataset's Pareto front. The predictor, its size and
the closed form of the expectation are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn

from common.experiment.seeds import derive_seed, generator

Values = NDArray[np.float64]
_LEAST_DEVIATION = 1e-3


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Which networks of a supernet enter the zoo."""

    kind: Literal["random", "pareto"] = "random"
    """random: uniformly drawn ones; pareto: from rounds of candidates those with the largest expected rise."""
    initial: int = 4
    """Of pareto: random networks a dataset to begin with."""
    num_candidates: int = 512
    """Of pareto: random pairs of dataset and network that a round looks at."""
    batch: int = 8
    """Of pareto: networks that a round adds."""
    least_gain: float = 1e-4
    """Of pareto: expected rise of the best candidate below which growing ends."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("initial", "num_candidates", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.least_gain < 0:
            raise ValueError(f"least_gain is {self.least_gain}; it must be 0 or more")


def hypervolume(costs: Values, accuracies: Values) -> float:
    """Integral over the unit cube of costs of the best accuracy among networks that cost at most as much.

    Args:
        costs: (N, C) in [0, 1].
        accuracies: (N,) in [0, 1].
    """
    edges, levels = _steps(costs, accuracies)
    return float((_volumes(edges, np.zeros(costs.shape[1])) * levels).sum())


def expected_gains(costs: Values, accuracies: Values, candidates: Values, means: Values, deviations: Values) -> Values:
    """Expected rise of the hypervolume by each of some candidates alone.

    With the accuracy of a candidate distributed as N(mean, deviation^2), and A(c) the best accuracy at cost c, the rise
    is the integral over the costs c at or above the candidate's of E[max(0, a - A(c))], which has a closed form in
    every cell of the grid of observed costs.

    Args:
        costs: (N, C) of the networks that are there, in [0, 1].
        accuracies: (N,) theirs.
        candidates: (M, C) costs.
        means: (M,) predicted accuracies.
        deviations: (M,) of the predictions, positive.

    Returns:
        (M,), 0 or more.
    """
    edges, levels = _steps(costs, accuracies)
    gains = np.empty(len(candidates))
    for place, cost in enumerate(candidates):
        deviation = deviations[place]
        z = (means[place] - levels) / deviation
        rise = (means[place] - levels) * norm.cdf(z) + deviation * norm.pdf(z)
        gains[place] = (_volumes(edges, cost) * rise).sum()
    return gains


def _steps(costs: Values, accuracies: Values) -> tuple[list[Values], Values]:
    """Edges of the grid of observed costs along each axis, and the best accuracy in each of its cells."""
    edges = [np.unique(np.clip(np.concatenate([[0.0, 1.0], axis]), 0, 1)) for axis in costs.T]
    lower = np.meshgrid(*[edge[:-1] for edge in edges], indexing="ij")
    reached = np.ones((*lower[0].shape, len(costs)), bool)
    for axis, corner in zip(costs.T, lower, strict=True):
        reached &= axis <= corner[..., None]
    return edges, np.max(np.where(reached, accuracies, 0.0), axis=-1, initial=0.0)


def _volumes(edges: list[Values], start: Values) -> Values:
    """Volume of each cell's part at or above a point."""
    sides = [
        np.clip(edge[1:] - np.maximum(edge[:-1], begin), 0, None) for edge, begin in zip(edges, start, strict=True)
    ]
    grid = np.meshgrid(*sides, indexing="ij")
    return np.asarray(np.prod(np.stack(grid), axis=0))


class Ensemble:
    """Accuracy of a network on a dataset, with the uncertainty of the guess: five small networks that disagree.

    Args:
        inputs: (N, D) codes of networks and datasets.
        accuracies: (N,) in [0, 1].
        seed: of weights and of the resampling of rows.
    """

    SIZE, WIDTH, STEPS = 5, 128, 150

    def __init__(self, inputs: Tensor, accuracies: Tensor, seed: int) -> None:
        self._members = [
            _fit(inputs, accuracies, derive_seed(seed, "member", place), width=self.WIDTH, steps=self.STEPS)
            for place in range(self.SIZE)
        ]
        fitted = torch.stack([_answer(member, inputs) for member in self._members]).mean(0)
        self._residual = float((fitted - accuracies).square().mean())

    def predict(self, inputs: Tensor) -> tuple[Values, Values]:
        """Means and deviations, (M,) each, of codes (M, D)."""
        answers = torch.stack([_answer(member, inputs) for member in self._members])
        deviation = (answers.var(0) + self._residual).sqrt().clamp(min=_LEAST_DEVIATION)
        return answers.mean(0).double().numpy(), deviation.double().numpy()


def _fit(inputs: Tensor, accuracies: Tensor, seed: int, *, width: int, steps: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        member = nn.Sequential(
            *(nn.Linear(inputs.shape[1], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        )
    rows = torch.randint(len(inputs), (len(inputs),), generator=generator(seed, "rows"))
    optimizer = torch.optim.Adam(member.parameters(), lr=3e-3, weight_decay=1e-4)
    for _ in range(steps):
        loss = F.mse_loss(torch.sigmoid(member(inputs[rows])).squeeze(1), accuracies[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return member.eval()


@torch.no_grad()
def _answer(member: nn.Module, inputs: Tensor) -> Tensor:
    answer: Tensor = torch.sigmoid(member(inputs)).squeeze(1)
    return answer


def choose(
    known: Sequence[tuple[int, Values, float]],
    candidates: Sequence[tuple[int, Values]],
    means: Values,
    deviations: Values,
    growth: Growth,
) -> list[int]:
    """The candidates of a round, best first, each chosen as if those before it had their predicted accuracy.

    Args:
        known: (dataset, costs (C,), accuracy) of what is there.
        candidates: (dataset, costs (C,)).
        means: (M,) predicted accuracies.
        deviations: (M,).
        growth: how many, and when to end.

    Returns:
        Up to `growth.batch` places among the candidates; none where nothing is worth it.
    """
    of_dataset = {
        number: ([cost for place, cost, _ in known if place == number], [a for place, _, a in known if place == number])
        for number in {place for place, _ in candidates}
    }
    numbers = np.array([place for place, _ in candidates])
    costs = np.array([cost for _, cost in candidates]).reshape(len(candidates), -1)
    gains = np.full(len(candidates), -np.inf)

    def rate(number: int) -> None:
        there, accuracies = of_dataset[number]
        rows = np.flatnonzero((numbers == number) & ~taken)
        stack = np.array(there).reshape(-1, costs.shape[1])
        gains[rows] = expected_gains(stack, np.array(accuracies), costs[rows], means[rows], deviations[rows])

    taken, chosen = np.zeros(len(candidates), bool), list[int]()
    for number in of_dataset:
        rate(number)
    while len(chosen) < min(growth.batch, len(candidates)):
        best = int(np.argmax(np.where(taken, -np.inf, gains)))
        if gains[best] < growth.least_gain:
            break
        chosen.append(best)
        taken[best] = True
        there, accuracies = of_dataset[int(numbers[best])]
        there.append(costs[best])
        accuracies.append(float(means[best]))
        rate(int(numbers[best]))
    return chosen
