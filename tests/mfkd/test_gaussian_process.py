"""The Gaussian process against scikit-learn and against formulas written out with explicit inverses."""

import math
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from mfkd.gaussian_process import Array, GaussianProcess, Kernel, TargetScaling, condition, fit_legacy, fit_wellposed

KERNELS = [
    Kernel(length_scale=1.7),
    Kernel(length_scale=3.1, amplitude=2.4, noise=0.07),
    Kernel(length_scale=0.6, amplitude=0.2, noise=1e-6),
]


def observations(seed: int, num: int = 20, dim: int = 5) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(num, dim))
    return features, 0.5 + 0.03 * features @ random.uniform(0.2, 1, dim) + 0.01 * random.normal(size=num)


def naive_posterior(process_inputs: tuple[Array, Array], kernel: Kernel, points: Array) -> tuple[Array, Array]:
    features, targets = process_inputs

    def covariance(first: Array, second: Array) -> Array:
        distances = ((first[:, None] - second[None]) ** 2).sum(-1)
        return kernel.amplitude * np.exp(-distances / (2 * kernel.length_scale**2))

    inverse = np.linalg.inv(covariance(features, features) + kernel.noise * np.eye(len(features)))
    cross = covariance(points, features)
    variance = kernel.amplitude - np.einsum("ni,ij,nj->n", cross, inverse, cross)
    return cross @ inverse @ targets, np.sqrt(variance)


@pytest.mark.parametrize("kernel", KERNELS)
def test_posterior_is_that_of_the_textbook_formulas(kernel: Kernel) -> None:
    features, targets = observations(0)
    points = np.random.default_rng(1).normal(size=(50, 5))
    mean, std = condition(features, targets, kernel).predict(points)
    expected_mean, expected_std = naive_posterior((features, targets), kernel, points)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-8)
    np.testing.assert_allclose(std, expected_std, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scaling", ["none", "standardise"])
def test_posterior_is_that_of_scikit_learn(kernel: Kernel, scaling: TargetScaling) -> None:
    features, targets = observations(2)
    points = np.random.default_rng(3).normal(size=(200, 5))
    oracle = GaussianProcessRegressor(
        ConstantKernel(kernel.amplitude) * RBF(kernel.length_scale),
        alpha=kernel.noise,
        optimizer=None,
        normalize_y=scaling == "standardise",
    ).fit(features, targets)
    mean, std = condition(features, targets, kernel, scaling=scaling).predict(points)
    expected_mean, expected_std = oracle.predict(points, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-8)
    np.testing.assert_allclose(std, expected_std, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scaling", ["none", "standardise"])
def test_the_legacy_fit_finds_the_length_scale_of_scikit_learn(seed: int, scaling: TargetScaling) -> None:
    features, targets = observations(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        oracle = GaussianProcessRegressor(RBF(1.0), normalize_y=scaling == "standardise").fit(features, targets)
    found = fit_legacy(features, targets, scaling=scaling).kernel
    assert found.length_scale == pytest.approx(oracle.kernel_.length_scale, rel=1e-4)
    assert (found.amplitude, found.noise) == (pytest.approx(1), pytest.approx(1e-10))


def naive_cost(logs: Array, features: Array, targets: Array) -> float:
    """Negative log posterior of (length scale, amplitude, noise), written out."""
    length_scale, amplitude, noise = np.exp(logs)
    num, dim = features.shape
    distances = ((features[:, None] - features[None]) ** 2).sum(-1)
    covariance = amplitude * np.exp(-distances / (2 * length_scale**2)) + noise * np.eye(num)
    scaled = (targets - targets.mean()) / targets.std()
    likelihood = -0.5 * scaled @ np.linalg.inv(covariance) @ scaled - 0.5 * np.linalg.slogdet(covariance)[1]
    prior = -0.5 * (logs[0] - 0.5 * math.log(dim)) ** 2 - 0.5 * logs[1] ** 2
    prior -= 0.5 * ((logs[2] - math.log(0.05)) / 1.5) ** 2
    return float(-likelihood - prior)


@pytest.mark.parametrize(("seed", "num"), [(0, 5), (1, 10), (2, 30)])
def test_the_wellposed_fit_is_the_optimum_of_likelihood_and_priors(seed: int, num: int) -> None:
    features, targets = observations(seed, num)
    root = math.sqrt(features.shape[1])
    kernel = fit_wellposed(features, targets).kernel
    logs = np.log([kernel.length_scale, kernel.amplitude, kernel.noise])
    bounds = np.log([[0.05 * root, 20 * root], [0.05, 20], [1e-6, 2]])
    searched = [
        minimize(naive_cost, np.log(start), (features, targets), method="Nelder-Mead", bounds=bounds)
        for start in ((root, 1, 0.05), (0.5 * root, 1, 0.3))
    ]
    assert naive_cost(logs, features, targets) <= min(found.fun for found in searched) + 1e-6
    assert ((bounds[:, 0] <= logs) & (logs <= bounds[:, 1])).all()


def fits(features: Array, targets: Array) -> list[GaussianProcess]:
    return [fit_wellposed(features, targets), fit_legacy(features, targets, scaling="standardise")]


def test_the_order_of_the_observations_does_not_matter() -> None:
    features, targets = observations(4)
    points = np.random.default_rng(5).normal(size=(30, 5))
    order = np.random.default_rng(6).permutation(len(targets))
    for straight, shuffled in zip(fits(features, targets), fits(features[order], targets[order]), strict=True):
        np.testing.assert_allclose(shuffled.predict(points), straight.predict(points), atol=1e-6)


def test_scaled_targets_give_equally_scaled_predictions() -> None:
    features, targets = observations(7)
    points = np.random.default_rng(8).normal(size=(30, 5))
    for plain, scaled in zip(fits(features, targets), fits(features, 3 - 40 * targets), strict=True):
        mean, std = plain.predict(points)
        np.testing.assert_allclose(scaled.predict(points), (3 - 40 * mean, 40 * std), atol=1e-5)


def test_moved_and_turned_features_give_the_same_predictions() -> None:
    features, targets = observations(9)
    points = np.random.default_rng(10).normal(size=(30, 5))
    turn = np.linalg.qr(np.random.default_rng(11).normal(size=(5, 5)))[0]
    for plain, moved in zip(fits(features, targets), fits(features @ turn + 7, targets), strict=True):
        np.testing.assert_allclose(moved.predict(points @ turn + 7), plain.predict(points), atol=1e-5)


def test_without_noise_the_mean_passes_through_the_targets_and_far_away_the_prior_returns() -> None:
    features, targets = observations(12)
    process = condition(features, targets, Kernel(length_scale=2, amplitude=3), scaling="standardise")
    mean, std = process.predict(features)
    np.testing.assert_allclose(mean, targets, atol=1e-7)
    np.testing.assert_allclose(std, 0, atol=1e-4)
    mean, std = process.predict(np.full((1, 5), 1e3))
    assert (mean[0], std[0]) == (pytest.approx(targets.mean()), pytest.approx(targets.std() * math.sqrt(3)))


def test_the_deviation_does_not_contain_the_noise() -> None:
    features, targets = np.repeat([[0.0], [1.0]], 500, axis=0), np.tile([0.0, 1.0], 500)
    _, std = condition(features, targets, Kernel(noise=0.5)).predict(features[:1])
    assert std[0] < 0.05


def test_a_single_evaluation_or_equal_ones_can_be_fitted() -> None:
    features, _ = observations(13, num=6)
    for process in (*fits(features[:1], np.array([0.7])), fit_wellposed(features, np.full(6, 0.7))):
        mean, std = process.predict(features + 1)
        np.testing.assert_allclose(mean, 0.7)
        assert np.isfinite(std).all()
        assert (std > 0).all()


def test_processes_that_predict_nothing_are_told_apart() -> None:
    features, targets = observations(14)
    degenerate = [condition(features, targets, Kernel(length_scale=scale)).is_degenerate for scale in (1e-3, 2, 1e6)]
    assert degenerate == [True, False, True]
    assert not condition(features[:1], targets[:1], Kernel(length_scale=1e-3)).is_degenerate
    alternating = fit_legacy(np.arange(8.0)[:, None], np.tile([0.0, 1.0], 4), scaling="centre")
    assert alternating.is_degenerate


def test_restarts_find_what_the_first_start_misses() -> None:
    """In many dimensions the likelihood is flat at length scale 1, and an optimiser that starts there stays."""
    features, targets = observations(15, num=6, dim=40)
    alone = fit_legacy(features, targets, scaling="centre")
    restarted = fit_legacy(features, targets, scaling="centre", num_restarts=30, random=np.random.default_rng(0))
    assert alone.kernel.length_scale == pytest.approx(1, abs=0.01)
    assert restarted.kernel.length_scale > 10


@pytest.mark.parametrize(
    ("features", "targets", "reason"),
    [
        (np.zeros((3, 2)), np.zeros(2), r"features \(3, 2\) and targets \(2,\)"),
        (np.zeros((0, 2)), np.zeros(0), "n and D >= 1"),
        (np.zeros(3), np.zeros(3), "are needed"),
        (np.array([[0.0], [np.nan]]), np.zeros(2), "finite"),
        (np.array([[0.0], [1.0]]), np.array([0.1, np.inf]), "finite"),
    ],
)
def test_damaged_observations_are_refused(features: Array, targets: Array, reason: str) -> None:
    for fit in (fit_wellposed, lambda x, y: fit_legacy(x, y, scaling="none"), lambda x, y: condition(x, y, Kernel())):
        with pytest.raises(ValueError, match=reason):
            fit(features, targets)


def test_equal_points_are_refused_without_noise_and_welcome_with_it() -> None:
    features, targets = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0]]), np.array([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="points 0 and 2 are equal"):
        fit_legacy(features, targets, scaling="centre")
    mean, _ = fit_wellposed(features, targets).predict(features)
    assert mean[0] == pytest.approx(mean[2])


def test_wrong_arguments_are_refused() -> None:
    features, targets = observations(16)
    with pytest.raises(ValueError, match="length_scale of a kernel is 0"):
        Kernel(length_scale=0)
    with pytest.raises(ValueError, match="noise of a kernel is inf"):
        Kernel(noise=math.inf)
    with pytest.raises(ValueError, match="3 restarts need a random generator"):
        fit_legacy(features, targets, scaling="centre", num_restarts=3)
    with pytest.raises(ValueError, match=r"points of shape \(2, 4\); \(N, 5\) is needed"):
        fit_wellposed(features, targets).predict(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="singular"):
        condition(np.zeros((3, 2)), np.zeros(3), Kernel(noise=1e-300))
