"""The figures that the released data give, by the published procedures and by ours."""

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from mfkd.config import GpMode, Mfkd1Config, StepConfig
from mfkd.gaussian_process import Array, fit_legacy
from mfkd.tables import FULL, EvaluationTable, Setting
from mfkd.tabular import agreement, rank_share, repeat_mfkd1, repeat_mfkd2

pytestmark = pytest.mark.data
Tables = Mapping[tuple[str, str], EvaluationTable]

AGREEMENT = {
    "nokd": "0.11 0.09 13.4  0.46 0.30 28.7  0.86 0.69 52.7  0.48 0.31 13.5  0.64 0.43 28.6  0.92 0.77 50.9",
    "kd": "0.34 0.23 22.9  0.60 0.43 48.1  0.92 0.74 64.3  0.54 0.36 18.0  0.81 0.61 46.4  0.91 0.78 64.6",
    "nst": "0.43 0.30 24.3  0.60 0.44 43.1  0.80 0.62 57.7  0.61 0.42 21.4  0.74 0.59 39.7  0.93 0.78 56.2",
    "attention": "0.58 0.39 15.7  0.61 0.39 39.1  0.74 0.54 57.3  0.43 0.29 7.7  0.57 0.39 20.0  0.72 0.55 48.8",
    "similarity": "0.35 0.20 23.8  0.53 0.36 42.8  0.79 0.61 57.7  0.45 0.28 13.5  0.61 0.41 28.5  0.91 0.73 50.9",
    "pkt": "0.34 0.24 19.6  0.47 0.33 42.9  0.41 0.31 36.1  0.44 0.30 15.5  0.60 0.43 35.0  0.61 0.49 48.4",
    "hint": "0.19 0.13 16.3  0.48 0.34 36.2  0.82 0.64 55.1  0.47 0.30 13.3  0.64 0.44 27.3  0.91 0.74 51.1",
    "crd": "0.17 0.13 14.7  0.45 0.30 32.8  0.85 0.66 57.3  0.43 0.29 14.9  0.30 0.30 32.5  0.88 0.71 58.4",
    "correlation": "0.16 0.12 13.5  0.46 0.30 28.9  0.91 0.71 52.7  0.46 0.28 13.5  0.58 0.37 28.0  0.92 0.76 51.6",
    "vid": "-0.03 -0.00 23.5  -0.10 0.01 31.9  -0.22 -0.09 25.4  0.45 0.28 13.5  0.60 0.40 28.0  0.92 0.75 51.6",
}
"""Pearson, Kendall and mean accuracy in percent; MobileNet at 1/27, 1/9, 1/3, then ShuffleNet."""


@pytest.mark.parametrize("method", AGREEMENT)
def test_low_fidelity_agrees_with_high_as_published(tables: Tables, method: str) -> None:
    expected = np.array(AGREEMENT[method].split(), np.float64).reshape(6, 3)
    pairs = [(space, part) for space in ("mobilenet", "shufflenet") for part in (27, 9, 3)]
    for (space, part), (pearson, kendall, percent) in zip(pairs, expected, strict=True):
        found = agreement(tables["cifar100", space], Setting(method, part))
        assert found.pearson == pytest.approx(pearson, abs=0.0051)
        assert found.kendall == pytest.approx(kendall, abs=0.0051)
        assert 100 * found.mean_low_test == pytest.approx(percent, abs=0.051)


def test_full_trainings_have_the_published_accuracies_and_costs(tables: Tables) -> None:
    mobilenet, shufflenet = (tables["cifar100", space] for space in ("mobilenet", "shufflenet"))
    tests = [100 * table.at(FULL).test for table in (mobilenet, shufflenet)]
    assert [round(test.mean(), 2) for test in tests] == [66.37, 66.92]
    assert [round(test.max(), 2) for test in tests] == [70.30, 71.73]
    settings = [FULL, *(Setting(method, part) for method in ("nokd", "kd", "nst") for part in (27, 9, 3))]
    seconds = [round(mobilenet.at(setting).seconds.mean()) for setting in settings]
    assert seconds == [1662, 89, 210, 573, 90, 211, 577, 156, 337, 878]


def test_the_notebook_gets_its_winners_with_our_process(tables: Tables) -> None:
    """1,000 trials without and with distillation, as the notebook draws them; scikit-learn agrees on the first ten."""
    table = tables["cifar100", "mobilenet"]
    features, full = table.domain.features(range(100)), table.at(FULL)
    random = np.random.RandomState(2)
    winners: dict[str, list[int]] = {"nokd": [], "kd": []}
    for trial in range(1000):
        for method, found in winners.items():
            drawn = random.choice(range(100), 30, replace=False)
            accuracies = table.at(Setting(method, 27)).valid[drawn]
            found.append(int(fit_legacy(features[drawn], accuracies, scaling="none").predict(features)[0].argmax()))
            if trial < 10:
                oracle = GaussianProcessRegressor(RBF(1.0)).fit(features[drawn], accuracies)
                assert found[-1] == oracle.predict(features).argmax()
    tests = {method: full.test[found] for method, found in winners.items()}
    assert round(tests["nokd"].mean(), 7) == 0.6734325
    assert round(tests["kd"].mean(), 7) == 0.6771741
    assert [round(test.std(), 5) for test in tests.values()] == [0.01039, 0.00888]
    shares = [round(100 * rank_share(table, test).mean(), 3) for test in tests.values()]
    assert shares == [30.915, 25.397]


def notebook_search(
    features: Array, accuracies: Array, start: int, random: np.random.RandomState, num: int | None = None
) -> list[int]:
    """The notebook's search by confidence bounds with scikit-learn: until the best, or `num` points are there.

    One more process is fitted than points are proposed, which draws from the generator.
    """
    points = [start]
    while True:
        mean = accuracies[points].mean()
        process = GaussianProcessRegressor(RBF(1.0), n_restarts_optimizer=3, random_state=random)
        process.fit(features[points], accuracies[points] - mean)
        if len(points) == num or (num is None and accuracies[points].max() == accuracies.max()):
            return points
        predicted, std = process.predict(features, return_std=True)
        scores = predicted + mean + 0.5 * std
        scores[points] = -np.inf
        points.append(int(scores.argmax()))


@pytest.fixture
def _no_warnings() -> Iterator[None]:
    """Few points leave the length scale at its bound."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.usefixtures("_no_warnings")
def test_the_notebook_takes_its_time_with_scikit_learn_and_at_random(tables: Tables) -> None:
    table = tables["cifar100", "mobilenet"]
    features, full = table.domain.features(range(100)), table.at(FULL)
    random, seconds, lengths = np.random.RandomState(2), [], []
    for _ in range(100):
        start = int(random.choice(range(100), 1, replace=False)[0])
        points = notebook_search(features, full.valid, start, random)
        seconds.append(full.seconds[points].sum())
        lengths.append(len(points))
    assert np.mean(seconds) == pytest.approx(13437.437, abs=0.01)
    assert np.mean(lengths) == 6.49
    random, seconds = np.random.RandomState(2), []
    for _ in range(100):
        order = random.permutation(100)
        seconds.append(full.seconds[order[: order.tolist().index(full.valid.argmax()) + 1]].sum())
    assert np.mean(seconds) == pytest.approx(86775.4, abs=0.1)


@pytest.mark.usefixtures("_no_warnings")
def test_the_notebook_needs_about_its_trainings_after_ten_cheap_evaluations(tables: Tables) -> None:
    """Published: 15,239.585 s and 4.60 full trainings, which is not reproduced: here they are 15,102.8 s and 4.53.

    The restarts draw from one generator, so the result hangs on how often the notebook fits between its draws, which is
    not known. All of these were tried, and none is equal: the low step with one fit more than proposals (15,102.8) or
    none (15,019.7), two more (15,282.5, 4.60 full trainings), eleven points (15,687.7 and 15,529.7), a draw of a start
    that is not used before the low step (14,923.4) or the high one (15,168.8; 15,396.1 with one fit more), the high
    step without its last fit (15,219.2, 4.57), the start at the largest mean of the low process (14,922.9 and
    15,322.1), a low step that ends at the best of its pool (12,580.2) or of the high one (12,265.6 to 12,810.4), test
    accuracies in the low step (13,920.4), and index 0 counted as no start (no difference). So only what another random
    stream has to meet is held: one full training more or less.
    """
    table = tables["cifar100", "mobilenet"]
    features, full, low = table.domain.features(range(100)), table.at(FULL), table.at(Setting("nst", 9))
    random, lengths = np.random.RandomState(2), []
    for _ in range(100):
        start = int(random.choice(range(100), 1, replace=False)[0])
        cheap = notebook_search(features, low.valid, start, random, num=10)
        points = notebook_search(features, full.valid, cheap[int(low.valid[cheap].argmax())], random)
        lengths.append(len(points))
    assert np.mean(lengths) == pytest.approx(4.60, abs=1.0)


ALGORITHM_1: dict[tuple[str, GpMode], dict[Setting, float]] = {
    ("mobilenet", "legacy"): {Setting("nokd", 27): 0.6734, Setting("kd", 27): 0.6777, Setting("nst", 27): 0.6880},
    ("mobilenet", "wellposed"): {Setting("nokd", 27): 0.6706, Setting("kd", 27): 0.6774, Setting("nst", 9): 0.6914},
    ("shufflenet", "legacy"): {Setting("kd", 27): 0.6937, Setting("nst", 27): 0.6979},
    ("shufflenet", "wellposed"): {Setting("nst", 27): 0.7047, Setting("kd", 9): 0.7061},
}
"""Mean test accuracies of 200 trials."""


@pytest.mark.parametrize(("space", "mode"), ALGORITHM_1)
def test_algorithm_1_finds_networks_as_good_as_expected(tables: Tables, space: str, mode: GpMode) -> None:
    """Within four standard errors of the difference of two such means, on seeds of our own."""
    for setting, expected in ALGORITHM_1[space, mode].items():
        found = repeat_mfkd1(tables["cifar100", space], setting, Mfkd1Config(gp=mode), range(200)).test_accuracy
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() * np.sqrt(2 / 200))


LEGACY_EVALUATIONS: dict[tuple[str, Setting | None], float] = {
    ("mobilenet", None): 6.80,
    ("mobilenet", Setting("nokd", 27)): 4.81,
    ("mobilenet", Setting("kd", 27)): 4.79,
    ("mobilenet", Setting("nst", 27)): 4.75,
    ("shufflenet", None): 8.16,
    ("shufflenet", Setting("nokd", 27)): 6.02,
    ("shufflenet", Setting("kd", 27)): 4.84,
    ("shufflenet", Setting("nst", 27)): 6.06,
}
"""Mean evaluations at high fidelity until the pool's best network is found, after ten in a setting or none."""


@pytest.mark.parametrize(("space", "setting"), LEGACY_EVALUATIONS)
def test_the_legacy_process_needs_the_published_evaluations(
    tables: Tables, space: str, setting: Setting | None
) -> None:
    found = repeat_mfkd2(tables["cifar100", space], setting, StepConfig(gp="legacy"), range(50))
    assert found.num_high.mean() == pytest.approx(LEGACY_EVALUATIONS[space, setting], abs=1.0)


def test_the_wellposed_process_needs_four_after_ten_distilled_evaluations(tables: Tables) -> None:
    table = tables["cifar100", "mobilenet"]
    found = repeat_mfkd2(table, Setting("kd", 27), StepConfig(), range(100))
    assert found.num_high.mean() <= 4.2
    assert (found.test_accuracy == table.at(FULL).test[table.at(FULL).valid.argmax()]).all()
    assert found.seconds.mean() == pytest.approx(10_479, rel=0.03)


def test_the_processes_differ_as_measured_where_nothing_precedes_high_fidelity(tables: Tables) -> None:
    table = tables["cifar100", "mobilenet"]
    modes: tuple[GpMode, ...] = ("wellposed", "legacy", "sklearn")
    wellposed, legacy, today = (
        repeat_mfkd2(table, None, StepConfig(gp=mode), range(50)).num_high.mean() for mode in modes
    )
    assert wellposed < legacy < today / 1.5
    assert wellposed == pytest.approx(4.90, abs=1)
    assert today == pytest.approx(14.71, abs=3)
