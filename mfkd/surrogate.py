"""What a surrogate says of a point that it has not seen: every evaluated point predicted from all the others."""

from collections.abc import Sequence

import numpy as np

from mfkd.algorithms import fit_mfkd1, fit_mfkd2
from mfkd.cokriging import fit_cokriging
from mfkd.config import Mfkd1Config, MfKdConfig, StepConfig
from mfkd.domain import Domain
from mfkd.evaluations import Evaluation
from mfkd.gaussian_process import Array

Algorithm = Mfkd1Config | StepConfig | MfKdConfig
Prediction = tuple[float, float] | None
"""Mean and deviation; None where too few others are there."""


def held_out_predictions(domain: Domain, made: Sequence[Evaluation], algorithm: Algorithm) -> list[Prediction]:
    """Predictions of evaluated points, each by a process fitted, its kernel too, to the others of its fidelity.

    Co-kriging predicts the high fidelity only, where the point's own low accuracy is known, as in the search.

    Args:
        domain: of the points.
        made: evaluations of one search.
        algorithm: of it, which says what process to fit.

    Returns:
        One a point, in order.
    """
    if isinstance(algorithm, MfKdConfig):
        return _by_cokriging(domain, made)
    features = domain.features([one.point for one in made])
    accuracies = np.array([one.accuracy for one in made])
    return [_left_out(features, accuracies, row, algorithm) for row in range(len(made))]


def _left_out(features: Array, accuracies: Array, row: int, algorithm: Mfkd1Config | StepConfig) -> Prediction:
    others = np.arange(len(accuracies)) != row
    if others.sum() < 2:
        return None
    if isinstance(algorithm, Mfkd1Config):
        process = fit_mfkd1(features[others], accuracies[others], algorithm.gp)
    else:
        process = fit_mfkd2(features[others], accuracies[others], algorithm.gp, np.random.default_rng(row))
    mean, std = process.predict(features[[row]])
    return float(mean[0]), float(std[0])


def _by_cokriging(domain: Domain, made: Sequence[Evaluation]) -> list[Prediction]:
    low = [one for one in made if one.fidelity == "low"]
    high = [one for one in made if one.fidelity == "high"]
    rows = {one.point: row for row, one in enumerate(low)}
    features = domain.features([one.point for one in low])
    accuracies = np.array([one.accuracy for one in low])
    found: dict[int, Prediction] = {}
    for left_out in high:
        others = [one for one in high if one.point != left_out.point]
        if len(others) < 2:
            continue
        high_rows = [rows[one.point] for one in others]
        model = fit_cokriging(features, accuracies, high_rows, [one.accuracy for one in others])
        mean, std = model.predict(domain.features([left_out.point]))
        found[left_out.point] = float(mean[0]), float(std[0])
    return [found.get(one.point) if one.fidelity == "high" else None for one in made]
