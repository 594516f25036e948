"""Predictions over whole domains against predictions point by point."""

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from common.spaces import MobileNetV2Space, grid_of
from mfkd.domain import Domain, PoolDomain, ProductDomain, predict_everywhere
from mfkd.gaussian_process import Array, GaussianProcess, Kernel, condition, fit_legacy, fit_wellposed

LEVELS = (np.array([-1.0, 1.0]), np.array([0.0]), np.array([-1.2, 0.0, 1.2]), np.array([-1.0, 1.0]))


def process_on(domain: Domain, num: int = 30, seed: int = 0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    features = domain.features(random.choice(domain.size, num, replace=False).tolist())
    return features, 0.6 + 0.02 * features @ random.uniform(0.2, 1, features.shape[1]) + 0.01 * random.normal(size=num)


def both_fits(domain: Domain) -> list[GaussianProcess]:
    observed = process_on(domain)
    return [fit_wellposed(*observed), fit_legacy(*observed, scaling="none")]


def test_points_of_a_product_count_with_the_last_axis_fastest() -> None:
    domain = ProductDomain(LEVELS)
    assert domain.size == 12
    np.testing.assert_array_equal(domain.features(range(12)), list(itertools.product(*LEVELS)))


@pytest.mark.parametrize("levels", [LEVELS, LEVELS[:1], (*LEVELS, np.linspace(-1, 1, 7)), (np.arange(40.0),)])
def test_a_product_predicts_what_the_pool_of_its_points_predicts(levels: tuple[Array, ...]) -> None:
    product, pool = ProductDomain(levels), PoolDomain(list(itertools.product(*levels)))
    random = np.random.default_rng(0)
    process = condition(
        random.normal(size=(9, len(levels))), random.normal(size=9), Kernel(length_scale=1.3, noise=1e-3)
    )
    expected = process.predict(list(itertools.product(*levels)))
    for domain in (product, pool):
        np.testing.assert_allclose(predict_everywhere(domain, process), expected, atol=1e-8)


def test_the_whole_published_space_is_predicted_as_point_by_point(seven_layers: ProductDomain) -> None:
    points = np.random.default_rng(1).choice(seven_layers.size, 3000, replace=False)
    for process in both_fits(seven_layers):
        mean, std = predict_everywhere(seven_layers, process)
        assert mean.shape == std.shape == (2_097_152,)
        expected_mean, expected_std = process.predict(seven_layers.features(points.tolist()))
        np.testing.assert_allclose(mean[points], expected_mean, atol=1e-10)
        # variances are differences of numbers around the amplitude: roots of small ones lose half the digits
        scale = process.scale**2 * process.kernel.amplitude
        np.testing.assert_allclose(std[points] ** 2 / scale, expected_std**2 / scale, atol=1e-10)


def test_the_best_point_is_that_of_scikit_learn_on_the_enumerated_space(four_layers: ProductDomain) -> None:
    observed = process_on(four_layers)
    process = fit_wellposed(*observed)
    oracle = GaussianProcessRegressor(
        process.kernel.amplitude * RBF(process.kernel.length_scale),
        alpha=process.kernel.noise,
        optimizer=None,
        normalize_y=True,
    ).fit(*observed)
    mean, std = predict_everywhere(four_layers, process)
    expected_mean, expected_std = oracle.predict(four_layers.features(range(4096)), return_std=True)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-10)
    np.testing.assert_allclose(std, expected_std, atol=1e-10)
    for kappa in (-0.5, 0, 0.5):
        assert (mean + kappa * std).argmax() == (expected_mean + kappa * expected_std).argmax()


def test_blocks_follow_one_another_and_cover_the_domain(seven_layers: ProductDomain) -> None:
    pool = PoolDomain(np.random.default_rng(0).normal(size=(70_000, 2)))
    for domain in (seven_layers, pool):
        process = condition(*process_on(domain, num=3), Kernel(length_scale=2))
        following = 0
        for block in domain.predict(process):
            assert block.first == following
            assert len(block.mean) == len(block.std) > 0
            following += len(block.mean)
        assert following == domain.size


def test_means_alone_are_those_beside_deviations(seven_layers: ProductDomain) -> None:
    pool = PoolDomain(np.random.default_rng(0).normal(size=(500, 2)))
    for domain in (seven_layers, pool):
        process = condition(*process_on(domain, num=6), Kernel(length_scale=2))
        for both, alone in zip(domain.predict(process), domain.predict(process, with_std=False), strict=True):
            np.testing.assert_array_equal(both.mean, alone.mean)
            assert both.std.max() > 0
            assert not alone.std.any()


def test_no_row_of_features_is_made_for_each_point() -> None:
    """Features of all points would take 235 MB, one array of predictions 17 MB."""
    tracemalloc.start()
    try:
        domain = ProductDomain(MobileNetV2Space().grid.scaled_levels)
        process = condition(*process_on(domain, num=5), Kernel(length_scale=4))
        best = max(float((block.mean + block.std).max()) for block in domain.predict(process))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.isfinite(best)
    assert peak < 25e6


def test_the_product_of_a_spaces_levels_has_its_indices_and_features() -> None:
    space = MobileNetV2Space()
    domain = ProductDomain(space.grid.scaled_levels)
    points = [0, 7, 12345, 1_048_576, space.size() - 1]
    assert domain.size == space.size()
    np.testing.assert_array_equal(domain.features(points), space.grid.features(space.grid.digits(points)))
    np.testing.assert_allclose(domain.features([0])[0], [-1, -1.34164079] * 7, atol=1e-8)
    codes = space.encode([space.arch(point) for point in points])
    np.testing.assert_array_equal(domain.features(points), codes)


def test_a_product_takes_the_levels_of_any_grid() -> None:
    grid = grid_of({"a": [True, False], "b": 3, "c": [1, 3, 5]})
    domain = ProductDomain(grid.scaled_levels)
    everything = torch.arange(6)
    np.testing.assert_array_equal(domain.features(range(6)), grid.features(grid.digits(everything)))


def test_a_pool_keeps_its_own_copy_of_the_features() -> None:
    rows = np.ones((3, 2))
    pool = PoolDomain(rows)
    rows[:] = 5
    assert pool.features([1]).tolist() == [[1, 1]]


@pytest.mark.parametrize("points", [[-1], [12], [0, 2**40], [0.5], ["1"], [[1]]])
def test_points_outside_are_refused(points: list[int]) -> None:
    for domain in (ProductDomain(LEVELS), PoolDomain(np.zeros((12, 4)))):
        with pytest.raises(ValueError, match=r"point"):
            domain.features(points)


@pytest.mark.parametrize("levels", [(), (np.array([]),), (np.array([[1.0]]),), (np.array([np.nan]),)])
def test_products_without_levels_are_refused(levels: tuple[Array, ...]) -> None:
    with pytest.raises(ValueError, match="one or more finite levels"):
        ProductDomain(levels)


def test_damaged_pools_and_spaces_too_large_to_predict_are_refused() -> None:
    for rows in (np.zeros((0, 3)), np.zeros(4), np.array([[np.inf]])):
        with pytest.raises(ValueError, match="features of a pool"):
            PoolDomain(rows)
    with pytest.raises(ValueError, match="fix some of its options"):
        ProductDomain([np.arange(10.0)] * 11)


def test_a_process_of_other_features_is_refused(four_layers: ProductDomain) -> None:
    process = condition(np.zeros((1, 3)), np.zeros(1), Kernel())
    with pytest.raises(ValueError, match="a process of 3 features cannot predict 8 axes"):
        next(four_layers.predict(process))
