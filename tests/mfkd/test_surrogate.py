"""Held-out predictions against plain formulas and plain loops."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mfkd.cokriging import fit_cokriging
from mfkd.config import Mfkd1Config, MfKdConfig, StepConfig
from mfkd.domain import PoolDomain
from mfkd.evaluations import Evaluation, Fidelity
from mfkd.gaussian_process import fit_wellposed
from mfkd.surrogate import held_out_predictions

RANDOM = np.random.default_rng(3)
FEATURES = RANDOM.normal(size=(40, 4))
DOMAIN = PoolDomain(FEATURES)
TRUTH = 0.6 + 0.05 * np.tanh(FEATURES @ np.array([1.0, 0.5, -0.5, 0.2]))


def made(num: int, fidelity: Fidelity = "low", shift: float = 0.0) -> list[Evaluation]:
    return [Evaluation(point, fidelity, float(TRUTH[point] - shift)) for point in range(num)]


def test_a_point_is_predicted_from_all_the_others_and_not_from_itself() -> None:
    found = held_out_predictions(DOMAIN, made(12), Mfkd1Config())
    for row in range(12):
        others = np.arange(12) != row
        process = fit_wellposed(FEATURES[:12][others], TRUTH[:12][others])
        correlation = process.kernel.correlation(cdist(FEATURES[[row]], process.features, "sqeuclidean"))
        mean = process.offset + process.scale * process.kernel.amplitude * correlation @ process.weights
        assert found[row] is not None
        assert found[row][0] == pytest.approx(float(mean[0]), abs=1e-12)  # type: ignore[index]
    moved = [Evaluation(one.point, "low", 0.1 if one.point == 5 else one.accuracy) for one in made(12)]
    assert held_out_predictions(DOMAIN, moved, Mfkd1Config())[5] == found[5], "its own accuracy plays no part"


def test_predictions_of_a_smooth_function_come_near_it() -> None:
    found = held_out_predictions(DOMAIN, made(40), StepConfig(max_samples=40))
    means = np.array([one[0] for one in found if one is not None])
    assert np.abs(means - TRUTH).mean() < 0.5 * np.abs(TRUTH - TRUTH.mean()).mean()


def test_two_points_are_too_few_to_leave_one_out() -> None:
    assert held_out_predictions(DOMAIN, made(2), StepConfig()) == [None, None]


def test_cokriging_predicts_the_high_fidelity_and_knows_the_low_one() -> None:
    evaluations = [*made(20, shift=0.1), *made(6, "high")]
    found = held_out_predictions(DOMAIN, evaluations, MfKdConfig(num_low=20, num_high=6, max_high=6))
    assert found[:20] == [None] * 20
    rows = [1, 2, 3, 4, 5]
    model = fit_cokriging(FEATURES[:20], TRUTH[:20] - 0.1, rows, TRUTH[rows])
    mean, std = model.predict(FEATURES[[0]])
    assert found[20] == (pytest.approx(mean[0]), pytest.approx(std[0]))


@pytest.mark.parametrize("mode", ["legacy", "sklearn"])
def test_the_processes_of_the_released_code_are_left_out_of_as_well(mode: str) -> None:
    found = held_out_predictions(DOMAIN, made(8), StepConfig(gp=mode))  # type: ignore[arg-type]
    assert all(one is not None and one[1] >= 0 for one in found)
