"""The three searches: MFKD1 and MFKD2 of the first paper and its code, MF-KD of the revised paper.

Each is a function of a domain, of the `evaluate` that trains networks (or looks them up), and of a configuration. The
same arguments give the same result; with the evaluations of an interrupted run as `known`, only the others are made.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.experiment.seeds import derive_seed
from common.spaces.grid import draw_indices
from mfkd.acquisition import Choice, choose
from mfkd.cokriging import CoKriging, fit_cokriging
from mfkd.config import GpMode, Mfkd1Config, MfKdConfig, StepConfig
from mfkd.domain import Domain
from mfkd.evaluations import Evaluate, Evaluation, Fidelity, Ledger
from mfkd.gaussian_process import Array, GaussianProcess, TargetScaling, fit_legacy, fit_wellposed

_log = logging.getLogger(__name__)

_MFKD2_SCALING: dict[GpMode, TargetScaling] = {"legacy": "centre", "sklearn": "standardise"}
_MFKD2_RESTARTS = 3


@dataclass(frozen=True, kw_only=True)
class PredictedWinner:
    """What MFKD1 ends with: a point that in general was never evaluated.

    Attributes:
        choice: the point, and what is predicted of it at low fidelity.
        evaluations: all that were made, in order.
    """

    choice: Choice
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredWinner:
    """What a step of MFKD2, or MF-KD, ends with: the best point that was evaluated.

    Attributes:
        best: the evaluation with the highest accuracy, the earliest of equals.
        evaluations: all that were made, in order.
    """

    best: Evaluation
    evaluations: tuple[Evaluation, ...]


def mfkd1(domain: Domain, evaluate: Evaluate, config: Mfkd1Config, known: Iterable[Evaluation] = ()) -> PredictedWinner:
    """Algorithm 1: low-fidelity accuracies of random points, a process, its largest mean over the whole domain.

    Points are those that the released code draws from the same seed.

    Raises:
        ValueError: more samples than points, or accuracies that are no fractions.
        RuntimeError: the accuracies are all equal, or the process is degenerate: its maximum would be no finding.

    Source: Trofimov et al., algorithm 1; released code. The code in the authors' branch of Vega takes half a deviation
        off the mean (`risk` 0.5), that of Vega and the notebook do not.
    """
    points = draw_indices(domain.size, config.max_samples, config.seed).tolist()
    ledger = Ledger(evaluate, known)
    accuracies = ledger.accuracies(points, "low")
    if (accuracies == accuracies[0]).all():
        raise RuntimeError(
            f"all {len(points)} low-fidelity accuracies are {accuracies[0]:g}, which tells architectures apart in no "
            "way: train longer, or on more images"
        )
    features = domain.features(points)
    process = fit_mfkd1(features, accuracies, config.gp)
    if process.is_degenerate:
        raise RuntimeError(
            f"the {config.gp} process of {len(points)} evaluations is degenerate (length scale "
            f"{process.kernel.length_scale:g}) and predicts nothing: evaluate more points, or choose gp 'wellposed'"
        )
    ties = _ties(config.gp, _random(config.seed, "mfkd1", "winner"))
    choice = choose(domain.predict(process, with_std=config.risk != 0), -config.risk, ties)
    std = float(process.predict(domain.features([choice.point]))[1][0])
    return PredictedWinner(choice=replace(choice, std=std), evaluations=ledger.evaluations)


def mfkd2(
    domain: Domain, evaluate: Evaluate, low: StepConfig, high: StepConfig, known: Iterable[Evaluation] = ()
) -> tuple[MeasuredWinner, MeasuredWinner]:
    """Algorithm 2: a search at low fidelity, then one at high fidelity that starts at its winner.

    Returns:
        Winners of the low and of the high step, each with the evaluations of its own step.

    Raises:
        ValueError: see `mfkd2_step`.

    Source: Trofimov et al., algorithm 2; released code. The two processes share nothing but the start.
    """
    known = tuple(known)
    first = mfkd2_step(domain, evaluate, "low", low, known=known)
    return first, mfkd2_step(domain, evaluate, "high", high, start=first.best.point, known=known)


def mfkd2_step(
    domain: Domain,
    evaluate: Evaluate,
    fidelity: Fidelity,
    config: StepConfig,
    *,
    start: int | None = None,
    known: Iterable[Evaluation] = (),
) -> MeasuredWinner:
    """One step of algorithm 2: a few random points, then the largest mean + kappa * std among the unseen ones.

    Args:
        domain: where the points lie.
        evaluate: what trains them.
        fidelity: how.
        config: numbers of points, process, kappa, seed.
        start: the first point; None draws it.
        known: evaluations of an earlier run; those of the other fidelity are not looked at.

    Raises:
        ValueError: more samples than points, a start outside, or accuracies that are no fractions.

    Source: Trofimov et al., algorithm 2; released code. Unlike there, random points are distinct, and a random one is
        taken of several equal scores, but for the processes "legacy" and "sklearn": those take the lowest number. A
        part of the published figures comes from that, as processes of few points are often degenerate.
    """
    ledger = Ledger(evaluate, known)
    points = _first_points(domain.size, config, fidelity, start)
    accuracies = ledger.accuracies(points, fidelity)
    while len(points) < config.max_samples and not config.is_reached(accuracies.max()):
        random = _random(config.seed, "mfkd2", fidelity, len(points))
        process = fit_mfkd2(domain.features(points), accuracies, config.gp, random)
        choice = choose(domain.predict(process), config.kappa, _ties(config.gp, random), points)
        points.append(choice.point)
        accuracies = np.append(accuracies, ledger.accuracies([choice.point], fidelity))
    return MeasuredWinner(best=ledger.evaluations[int(accuracies.argmax())], evaluations=ledger.evaluations)


def mf_kd(domain: Domain, evaluate: Evaluate, config: MfKdConfig, known: Iterable[Evaluation] = ()) -> MeasuredWinner:
    """Co-kriging of both fidelities: random points, then the largest mean + kappa * std of the high accuracy.

    Designs stay nested: a proposal is evaluated at low fidelity first, unless it was before.

    Returns:
        The best point at high fidelity.

    Raises:
        ValueError: more samples than points, or accuracies that are no fractions.

    Source: Trofimov et al., revised version of 2023. Its kernel, kappa and budgets are not known; they are ours.
    """
    ledger = Ledger(evaluate, known)
    low_points = _distinct(domain.size, config.num_low, _random(config.seed, "mf_kd", "points"))
    high_points = low_points[: config.num_high]
    low = ledger.accuracies(low_points, "low")
    high = ledger.accuracies(high_points, "high")
    while len(high_points) < config.max_high and not config.is_reached(high.max()):
        model = _cokriging(domain, (low_points, low), (high_points, high))
        random = _random(config.seed, "mf_kd", "proposal", len(high_points))
        point = choose(model.over(domain), config.kappa, random, high_points).point
        if point not in low_points:
            low_points.append(point)
            low = np.append(low, ledger.accuracies([point], "low"))
        high_points.append(point)
        high = np.append(high, ledger.accuracies([point], "high"))
    made = [evaluation for evaluation in ledger.evaluations if evaluation.fidelity == "high"]
    return MeasuredWinner(best=made[int(high.argmax())], evaluations=ledger.evaluations)


def _cokriging(domain: Domain, low: tuple[Sequence[int], Array], high: tuple[Sequence[int], Array]) -> CoKriging:
    rows = {point: row for row, point in enumerate(low[0])}
    return fit_cokriging(domain.features(low[0]), low[1], [rows[point] for point in high[0]], high[1])


def fit_mfkd1(features: Array, accuracies: Array, mode: GpMode) -> GaussianProcess:
    """The process of algorithm 1: (n, D) features and their (n,) accuracies."""
    if mode == "wellposed":
        return fit_wellposed(features, accuracies)
    return fit_legacy(features, accuracies, scaling="none")


def fit_mfkd2(features: Array, accuracies: Array, mode: GpMode, random: np.random.Generator) -> GaussianProcess:
    """The process of a step of algorithm 2: (n, D) features, their (n,) accuracies, and what draws its restarts."""
    if mode == "wellposed":
        return fit_wellposed(features, accuracies)
    scaling = _MFKD2_SCALING[mode]
    process = fit_legacy(features, accuracies, scaling=scaling, num_restarts=_MFKD2_RESTARTS, random=random)
    if process.is_degenerate:
        _log.info("the %s process of %d points is degenerate and proposes by numbers", mode, len(accuracies))
    return process


def _ties(mode: GpMode, random: np.random.Generator) -> np.random.Generator | None:
    return random if mode == "wellposed" else None


def _first_points(size: int, config: StepConfig, fidelity: Fidelity, start: int | None) -> list[int]:
    """The start and distinct random points, `init_samples` in all."""
    if config.max_samples > size:
        raise ValueError(f"max_samples is {config.max_samples}, but there are {size} points: lower it")
    if start is not None and not 0 <= start < size:
        raise ValueError(f"the start is point {start}: 0 to {size - 1} are points of this space")
    drawn = _distinct(size, config.init_samples, _random(config.seed, "mfkd2", fidelity, "first points"))
    if start is None:
        return drawn
    return [start, *[point for point in drawn if point != start][: config.init_samples - 1]]


def _distinct(size: int, num: int, random: np.random.Generator) -> list[int]:
    """Distinct points, uniformly, in random order; takes memory for those drawn only."""
    if num > size:
        raise ValueError(f"{num} distinct points are needed, but there are {size}: lower the number of samples")
    return [int(point) for point in random.choice(size, num, replace=False)]


def _random(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, *names))
