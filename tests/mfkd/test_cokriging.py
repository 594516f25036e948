"""Co-kriging against its formulas, and where its two fidelities are one function."""

import numpy as np
import pytest

from mfkd.cokriging import fit_cokriging
from mfkd.domain import Domain, PoolDomain, ProductDomain
from mfkd.gaussian_process import Array, fit_wellposed


def two_fidelities(num: int = 40, num_high: int = 12) -> tuple[Array, Array, list[int], Array]:
    random = np.random.default_rng(0)
    features = random.normal(size=(num, 4))
    low = 0.3 + 0.05 * np.tanh(features[:, 0] + 0.5 * features[:, 1])
    rows = random.choice(num, num_high, replace=False).tolist()
    return features, low, rows, 0.2 + 1.4 * low[rows] + 0.01 * features[rows, 2]


def test_prediction_is_ratio_times_low_plus_rest() -> None:
    features, low, rows, high = two_fidelities()
    points = np.random.default_rng(1).normal(size=(30, 4))
    model = fit_cokriging(features, low, rows, high)
    first = fit_wellposed(features, low)
    means = first.predict(features[rows])[0]
    ratio = np.cov(means, high)[0, 1] / (1.1 * np.cov(means, high)[0, 0])
    rest = fit_wellposed(features[rows], high - ratio * means)
    (low_mean, low_std), (rest_mean, rest_std) = first.predict(points), rest.predict(points)
    assert model.ratio == pytest.approx(ratio)
    mean, std = model.predict(points)
    np.testing.assert_allclose(mean, ratio * low_mean + rest_mean, atol=1e-12)
    np.testing.assert_allclose(std, np.sqrt(ratio**2 * low_std**2 + rest_std**2), atol=1e-12)


def test_predictions_over_a_domain_are_those_point_by_point() -> None:
    pair = np.array([-1.0, 1.0])
    product = ProductDomain([pair, np.array([-1.2, 0, 1.2])] * 2)
    random = np.random.default_rng(2)
    domains: list[Domain] = [product, PoolDomain(random.normal(size=(50, 4)))]
    for domain in domains:
        everything = domain.features(range(domain.size))
        low = 0.5 + 0.02 * everything[:20].sum(1)
        model = fit_cokriging(everything[:20], low, range(0, 20, 4), low[::4] ** 2)
        blocks = list(model.over(domain))
        found = np.concatenate([block.mean for block in blocks]), np.concatenate([block.std for block in blocks])
        np.testing.assert_allclose(found, model.predict(everything), atol=1e-10)


def test_low_fidelity_helps_where_it_tells_the_shape() -> None:
    features, low, rows, high = two_fidelities(num=80, num_high=8)
    points = np.random.default_rng(3).normal(size=(400, 4))
    truth = 0.2 + 1.4 * (0.3 + 0.05 * np.tanh(points[:, 0] + 0.5 * points[:, 1])) + 0.01 * points[:, 2]
    errors = [
        np.square(model.predict(points)[0] - truth).mean()
        for model in (fit_cokriging(features, low, rows, high), fit_wellposed(features[rows], high))
    ]
    assert errors[0] < errors[1] / 2


def test_the_ratio_is_one_where_no_slope_exists() -> None:
    features, low, rows, high = two_fidelities()
    assert fit_cokriging(features, low, rows[:2], high[:2]).ratio == 1
    assert fit_cokriging(features, np.full_like(low, 0.3), rows, high).ratio == 1


@pytest.mark.parametrize(
    ("rows", "high", "reason"),
    [
        ([0, 1, 1], [0.1, 0.2, 0.3], "distinct rows of the 40 points"),
        ([0, 40], [0.1, 0.2], "distinct rows of the 40 points"),
        ([-1], [0.1], "distinct rows of the 40 points"),
        ([0, 1], [0.1], "one each"),
        ([], [], "at least one"),
    ],
)
def test_designs_that_are_not_nested_are_refused(rows: list[int], high: list[float], reason: str) -> None:
    features, low, _, _ = two_fidelities()
    with pytest.raises(ValueError, match=reason):
        fit_cokriging(features, low, rows, high)
