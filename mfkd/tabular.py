"""Searches repeated on the published evaluations: how well low fidelity ranks, what a search finds, what it costs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from common.meta.ranking import kendall, pearson
from mfkd.algorithms import mfkd1, mfkd2, mfkd2_step
from mfkd.config import Mfkd1Config, StepConfig
from mfkd.gaussian_process import Array
from mfkd.tables import FULL, EvaluationTable, Setting


@dataclass(frozen=True)
class Agreement:
    """How low-fidelity validation accuracies agree with test accuracies at high fidelity.

    Attributes:
        pearson: linear correlation.
        kendall: rank correlation.
        mean_low_test: mean low-fidelity accuracy on test images, in [0, 1].
    """

    pearson: float
    kendall: float
    mean_low_test: float


@dataclass(frozen=True, eq=False)
class Repeated:
    """One entry for each seed.

    Attributes:
        test_accuracy: (seeds,) of the network found, trained fully.
        num_high: (seeds,) evaluations at high fidelity.
        seconds: (seeds,) on the authors' GPU for all evaluations.
    """

    test_accuracy: Array
    num_high: Array
    seconds: Array


def agreement(table: EvaluationTable, low: Setting) -> Agreement:
    """Agreement of a setting with high fidelity, over the networks trained in both.

    Raises:
        ValueError: the table has no such setting.
    """
    cheap, full = table.at(low), table.at(FULL)
    both = np.isfinite(cheap.valid) & np.isfinite(full.test)
    pair = torch.from_numpy(cheap.valid[both]), torch.from_numpy(full.test[both])
    return Agreement(pearson(*pair), kendall(*pair), float(np.nanmean(cheap.test)))


def rank_share(table: EvaluationTable, test_accuracy: Array) -> Array:
    """Share of the pool that is as good as each test accuracy (n,), or better; (n,), lower is better."""
    as_good = table.at(FULL).test >= np.asarray(test_accuracy)[:, None]
    return np.array(as_good.mean(1))


def repeat_mfkd1(table: EvaluationTable, low: Setting, config: Mfkd1Config, seeds: Iterable[int]) -> Repeated:
    """Algorithm 1 with each seed in place of the configuration's.

    Raises:
        ValueError, RuntimeError: see `mfkd1`; the table has no such setting.
    """
    found = []
    for seed in seeds:
        winner = mfkd1(table.domain, table.evaluate(low), replace(config, seed=seed))
        test = table.at(FULL).test[winner.choice.point]
        found.append((test, 0, table.seconds(winner.evaluations, low)))
    return _repeated(found)


def repeat_mfkd2(table: EvaluationTable, low: Setting | None, config: StepConfig, seeds: Iterable[int]) -> Repeated:
    """Algorithm 2 with each seed, until the pool's best network in validation is found, as in the notebook.

    Args:
        table: the pool.
        low: setting of the low-fidelity step; None leaves that step out.
        config: of the low-fidelity step. The high-fidelity one differs in its end: at the best network.
        seeds: in place of the configuration's.

    Raises:
        ValueError, RuntimeError: see `mfkd2`; the table has no such setting.
    """
    best = float(table.at(FULL).valid.max())
    found = []
    for seed in seeds:
        first = replace(config, seed=seed)
        last = replace(first, max_samples=table.domain.size, target=best)
        evaluate = table.evaluate(low or FULL)
        if low is None:
            winner = mfkd2_step(table.domain, evaluate, "high", last)
            evaluations = winner.evaluations
        else:
            cheap, winner = mfkd2(table.domain, evaluate, first, last)
            evaluations = (*cheap.evaluations, *winner.evaluations)
        test = table.at(FULL).test[winner.best.point]
        found.append((test, len(winner.evaluations), table.seconds(evaluations, low or FULL)))
    return _repeated(found)


def _repeated(rows: list[tuple[float, int, float]]) -> Repeated:
    if not rows:
        raise ValueError("no seeds were given: give at least one")
    return Repeated(*np.array(rows, np.float64).T)
