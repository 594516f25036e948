"""Searches on the table of NAS-Bench-201: the cells as a domain of two fidelities, and the ways to search them.

Source: Trofimov et al., arXiv 2006.08341, revised version; Dong and Yang, ICLR 2020 (the table).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.experiment.seeds import derive_seed
from common.spaces.nasbench201 import OPERATIONS
from common.spaces.nasbench201_table import AccuracyTable
from mfkd.algorithms import mf_kd, mfkd2, mfkd2_step
from mfkd.config import MfKdConfig, StepConfig
from mfkd.domain import PoolDomain
from mfkd.evaluations import Evaluation, Fidelity
from mfkd.gaussian_process import Array

Dataset = Literal["cifar10", "cifar100", "imagenet16_120"]
LOW_EPOCHS, HIGH_EPOCHS = 12, 200
_FIRST = 5  # random cells of MFKD2 at low fidelity, before its first proposal


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Look-ups of one search.

    Raises:
        ValueError: numbers that do not go together.
    """

    num_low: int = 50
    """At low fidelity, of the searches that have two fidelities; co-kriging may add one for each proposal."""
    init_high: int = 5
    """At high fidelity, of co-kriging before its first proposal."""
    num_high: int = 30
    """At high fidelity, of every search."""
    kappa: float = 0.5
    """Predicted deviations that are added to the mean of a proposal."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.init_high <= self.num_high <= self.num_low:
            raise ValueError(
                f"init_high {self.init_high}, num_high {self.num_high}, num_low {self.num_low}: they must not fall, "
                "from 1 on"
            )


@dataclass(frozen=True, eq=False)
class CellTable:
    """Both fidelities of all cells.

    Attributes:
        domain: one-hot codes of the six edges, every column scaled to deviation 1.
        low: (15625,) validation accuracies after 12 epochs.
        high: (15625,) test accuracies after 200 epochs.
    """

    domain: PoolDomain
    low: Array
    high: Array

    def evaluate(self, points: Sequence[int], fidelity: Fidelity) -> list[float]:
        """Accuracies of cells, looked up."""
        values = self.low if fidelity == "low" else self.high
        return [float(value) for value in values[list(points)]]


def cell_table(table: AccuracyTable, dataset: Dataset) -> CellTable:
    """The fidelities of a dataset.

    Raises:
        ValueError: the table lacks a column.
    """
    low = table.accuracy(dataset, split="valid", epochs=LOW_EPOCHS).double().numpy()
    high = table.accuracy(dataset, split="test", epochs=HIGH_EPOCHS).double().numpy()
    return CellTable(PoolDomain(cell_features(table)), low, high)


def cell_features(table: AccuracyTable) -> Array:
    """One-hot codes of the operations of all cells, (15625, 30): mean 0 and deviation 1 in every column.

    Source: the encoding of the revised paper as far as it is known; the scaling is ours.
    """
    operations = np.array([cell.operations for cell in table.cells])
    codes = np.eye(len(OPERATIONS))[operations].reshape(len(operations), -1)
    scaled: Array = (codes - codes.mean(0)) / codes.std(0)
    return scaled


Search = Callable[[CellTable, Budget, int], Sequence[Evaluation]]
"""A search from a seed; returns its look-ups in order."""


def _mfkd2(table: CellTable, budget: Budget, seed: int) -> Sequence[Evaluation]:
    low = StepConfig(
        init_samples=min(_FIRST, budget.num_low), max_samples=budget.num_low, kappa=budget.kappa, seed=seed
    )
    first, last = mfkd2(table.domain, table.evaluate, low, _high(budget, seed))
    return (*first.evaluations, *last.evaluations)


def _cokriging(table: CellTable, budget: Budget, seed: int) -> Sequence[Evaluation]:
    config = MfKdConfig(
        num_low=budget.num_low, num_high=budget.init_high, max_high=budget.num_high, kappa=budget.kappa, seed=seed
    )
    return mf_kd(table.domain, table.evaluate, config).evaluations


def _single(table: CellTable, budget: Budget, seed: int) -> Sequence[Evaluation]:
    return mfkd2_step(table.domain, table.evaluate, "high", _high(budget, seed)).evaluations


def _by_low(table: CellTable, budget: Budget, seed: int) -> Sequence[Evaluation]:
    """Random cells at low fidelity, then the best of them at high fidelity, best first."""
    points = _drawn(table, budget.num_low, seed)
    low = table.evaluate(points, "low")
    best = [points[row] for row in np.argsort(-np.array(low), kind="stable")[: budget.num_high]]
    return [*_looked_up(table, points, "low"), *_looked_up(table, best, "high")]


def _random(table: CellTable, budget: Budget, seed: int) -> Sequence[Evaluation]:
    return _looked_up(table, _drawn(table, budget.num_high, seed), "high")


SEARCHES: Mapping[str, Search] = {
    "MFKD2": _mfkd2,
    "co-kriging": _cokriging,
    "GP, high fidelity only": _single,
    "random, then the best at 12 epochs": _by_low,
    "random": _random,
}


def _high(budget: Budget, seed: int) -> StepConfig:
    return StepConfig(max_samples=budget.num_high, kappa=budget.kappa, seed=seed)


def _drawn(table: CellTable, num: int, seed: int) -> list[int]:
    random = np.random.default_rng(derive_seed(seed, "random cells"))
    return [int(point) for point in random.choice(table.domain.size, num, replace=False)]


def _looked_up(table: CellTable, points: Sequence[int], fidelity: Fidelity) -> list[Evaluation]:
    found = table.evaluate(points, fidelity)
    return [Evaluation(point, fidelity, accuracy) for point, accuracy in zip(points, found, strict=True)]


def course(looked_up: Sequence[tuple[Fidelity, int, float]]) -> tuple[list[float], list[float]]:
    """Best accuracy after each high-fidelity look-up, and what was paid by then.

    Args:
        looked_up: (fidelity, point, accuracy) in order.

    Returns:
        The accuracies, and costs in trainings of 200 epochs: one for each look-up at high fidelity, 12 / 200 for each
        at low fidelity.
    """
    best, paid, bests, costs = 0.0, 0.0, [], []
    for fidelity, _, accuracy in looked_up:
        paid += 1.0 if fidelity == "high" else LOW_EPOCHS / HIGH_EPOCHS
        if fidelity == "high":
            best = max(best, accuracy)
            bests.append(best)
            costs.append(paid)
    return bests, costs
