"""The searches on oracles that need no training: what they find, what they never do, and how they go on."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from mfkd.algorithms import MeasuredWinner, PredictedWinner, mf_kd, mfkd1, mfkd2, mfkd2_step
from mfkd.config import GpMode, Mfkd1Config, MfKdConfig, StepConfig
from mfkd.domain import Domain, PoolDomain, ProductDomain
from mfkd.evaluations import Evaluate, Evaluation, Fidelity
from mfkd.gaussian_process import fit_wellposed

MODES = get_args(GpMode)
Outcome = tuple[int, tuple[Evaluation, ...]]


def linear_oracle(domain: Domain, seed: int) -> tuple[Evaluate, int]:
    """Accuracies 0.5 + 0.02 * (positive linear function of the features), somewhat lower at low fidelity.

    The best point of a product of rising levels is its last.
    """
    weights = np.random.default_rng(seed).uniform(0.2, 1, domain.features([0]).shape[1])

    def evaluate(points: Sequence[int], fidelity: Fidelity) -> list[float]:
        # summed row by row: a product of matrices differs in its last bits with the number of rows
        sums = (domain.features(points) * weights).sum(1)
        return [float(one) for one in 0.5 + 0.02 * sums - 0.1 * (fidelity == "low")]

    return evaluate, domain.size - 1


def run_mfkd1(domain: Domain, evaluate: Evaluate, known: Iterable[Evaluation] = ()) -> Outcome:
    found: PredictedWinner = mfkd1(domain, evaluate, Mfkd1Config(max_samples=12), known)
    return found.choice.point, found.evaluations


def run_mfkd2(domain: Domain, evaluate: Evaluate, known: Iterable[Evaluation] = ()) -> Outcome:
    low, high = mfkd2(domain, evaluate, StepConfig(init_samples=4, max_samples=9), StepConfig(max_samples=5), known)
    return high.best.point, (*low.evaluations, *high.evaluations)


def run_legacy_mfkd2(domain: Domain, evaluate: Evaluate, known: Iterable[Evaluation] = ()) -> Outcome:
    step = StepConfig(init_samples=4, max_samples=9, gp="legacy")
    low, high = mfkd2(domain, evaluate, step, replace(step, max_samples=6), known)
    return high.best.point, (*low.evaluations, *high.evaluations)


def run_mf_kd(domain: Domain, evaluate: Evaluate, known: Iterable[Evaluation] = ()) -> Outcome:
    found: MeasuredWinner = mf_kd(domain, evaluate, MfKdConfig(num_low=15, num_high=4, max_high=8), known)
    return found.best.point, found.evaluations


SEARCHES = [run_mfkd1, run_mfkd2, run_legacy_mfkd2, run_mf_kd]
Search = Callable[..., Outcome]


@pytest.mark.parametrize("mode", ["wellposed", "legacy"])
def test_mfkd1_finds_the_optimum_of_4096_points_from_30_samples(four_layers: ProductDomain, mode: GpMode) -> None:
    for seed in range(40):
        evaluate, best = linear_oracle(four_layers, seed)
        assert mfkd1(four_layers, evaluate, Mfkd1Config(gp=mode, seed=seed)).choice.point == best


def test_mfkd1_draws_the_points_of_the_released_code_and_measures_no_other(seven_layers: ProductDomain) -> None:
    evaluate, _ = linear_oracle(seven_layers, 0)
    winner = mfkd1(seven_layers, evaluate, Mfkd1Config())
    points = [evaluation.point for evaluation in winner.evaluations]
    assert points[:5] == [356534, 1857049, 1359836, 1829771, 1458085]
    assert len(points) == 30
    assert {evaluation.fidelity for evaluation in winner.evaluations} == {"low"}
    mean, std = winner.choice.mean, winner.choice.std
    assert winner.choice.point not in points
    assert mean > max(evaluation.accuracy for evaluation in winner.evaluations)
    assert std > 0


@pytest.mark.parametrize("risk", [0.0, 0.5, 20.0])
def test_the_winner_is_the_largest_mean_less_the_risk(four_layers: ProductDomain, risk: float) -> None:
    evaluate, _ = linear_oracle(four_layers, 3)
    winner = mfkd1(four_layers, evaluate, Mfkd1Config(risk=risk, max_samples=8))
    observed = [evaluation.point for evaluation in winner.evaluations]
    process = fit_wellposed(four_layers.features(observed), evaluate(observed, "low"))
    mean, std = process.predict(four_layers.features(range(4096)))
    assert winner.choice.point == (mean - risk * std).argmax()
    assert winner.choice.mean == pytest.approx(mean[winner.choice.point])
    assert winner.choice.std == pytest.approx(std[winner.choice.point])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(3))
def test_no_point_is_evaluated_twice_at_one_fidelity(four_layers: ProductDomain, mode: GpMode, seed: int) -> None:
    evaluate, _ = linear_oracle(four_layers, seed)
    config = StepConfig(init_samples=5, max_samples=15, gp=mode, seed=seed)
    low, high = mfkd2(four_layers, evaluate, config, config)
    mixed = mf_kd(four_layers, evaluate, MfKdConfig(num_low=20, num_high=5, max_high=9, seed=seed))
    for made, num in ((low.evaluations, 15), (high.evaluations, 15)):
        assert len({evaluation.point for evaluation in made}) == len(made) == num
    keys = [evaluation.key for evaluation in mixed.evaluations]
    assert len(set(keys)) == len(keys)
    assert sum(key.startswith("high") for key in keys) == 9


@pytest.mark.parametrize("mode", MODES)
def test_a_search_of_every_point_ends_with_the_best(mode: GpMode) -> None:
    domain = PoolDomain(np.random.default_rng(0).normal(size=(12, 3)))
    accuracies = np.random.default_rng(1).uniform(size=12)
    winner = mfkd2_step(domain, lambda points, _: accuracies[list(points)], "low", StepConfig(max_samples=12, gp=mode))
    assert sorted(evaluation.point for evaluation in winner.evaluations) == list(range(12))
    assert winner.best.point == accuracies.argmax()


@pytest.mark.parametrize("seed", range(5))
def test_the_high_step_starts_at_the_low_winner(four_layers: ProductDomain, seed: int) -> None:
    evaluate, _ = linear_oracle(four_layers, seed)
    config = StepConfig(init_samples=3, max_samples=8, seed=seed)
    low, high = mfkd2(four_layers, evaluate, config, config)
    assert low.best.accuracy == max(evaluation.accuracy for evaluation in low.evaluations)
    assert high.evaluations[0].point == low.best.point
    assert {evaluation.fidelity for evaluation in high.evaluations} == {"high"}


def test_the_start_counts_among_the_first_points_and_may_be_point_zero(four_layers: ProductDomain) -> None:
    evaluate, _ = linear_oracle(four_layers, 0)
    config = StepConfig(init_samples=4, max_samples=4)
    free = mfkd2_step(four_layers, evaluate, "low", config)
    for start in (0, free.evaluations[2].point):
        begun = mfkd2_step(four_layers, evaluate, "low", config, start=start)
        points = [evaluation.point for evaluation in begun.evaluations]
        assert points[0] == start
        assert len(set(points)) == 4


@pytest.mark.parametrize("mode", ["wellposed", "legacy"])
def test_mfkd2_climbs_to_the_optimum(four_layers: ProductDomain, mode: GpMode) -> None:
    evaluate, best = linear_oracle(four_layers, 1)
    _, high = mfkd2(four_layers, evaluate, StepConfig(max_samples=20, gp=mode), StepConfig(max_samples=15, gp=mode))
    assert high.best.point == best


def test_mf_kd_climbs_to_the_optimum_with_nested_designs(four_layers: ProductDomain) -> None:
    evaluate, best = linear_oracle(four_layers, 2)
    winner = mf_kd(four_layers, evaluate, MfKdConfig(num_low=25, num_high=5, max_high=10))
    assert winner.best.point == best
    assert winner.best.fidelity == "high"
    order = {evaluation.key: place for place, evaluation in enumerate(winner.evaluations)}
    high = [evaluation for evaluation in winner.evaluations if evaluation.fidelity == "high"]
    assert all(order[f"low/{evaluation.point}"] < order[evaluation.key] for evaluation in high)


def test_a_target_ends_the_search_as_soon_as_it_is_reached(four_layers: ProductDomain) -> None:
    evaluate, best = linear_oracle(four_layers, 4)
    highest = evaluate([best], "high")[0]
    config = StepConfig(max_samples=60, target=highest)
    winner = mfkd2_step(four_layers, evaluate, "high", config)
    assert winner.evaluations[-1].point == best
    assert len(winner.evaluations) < 60
    assert len(mfkd2_step(four_layers, evaluate, "high", replace(config, target=0.0)).evaluations) == 1
    mixed = mf_kd(four_layers, evaluate, MfKdConfig(num_low=30, num_high=5, max_high=60, target=highest))
    assert mixed.evaluations[-1].key == f"high/{best}"


@pytest.mark.parametrize("search", SEARCHES)
def test_two_runs_are_identical_and_another_seed_is_another_run(four_layers: ProductDomain, search: Search) -> None:
    evaluate, _ = linear_oracle(four_layers, 5)
    assert search(four_layers, evaluate) == search(four_layers, evaluate)
    config = StepConfig(init_samples=3)
    first, second = (mfkd2_step(four_layers, evaluate, "low", replace(config, seed=seed)) for seed in (1, 2))
    assert first.evaluations != second.evaluations


@pytest.mark.parametrize("search", SEARCHES)
def test_the_order_in_which_evaluations_end_does_not_matter(four_layers: ProductDomain, search: Search) -> None:
    evaluate, _ = linear_oracle(four_layers, 6)

    def backwards_in_threads(points: Sequence[int], fidelity: Fidelity) -> list[float]:
        with ThreadPoolExecutor(4) as pool:
            ended = dict(pool.map(lambda point: (point, evaluate([point], fidelity)[0]), reversed(points)))
        return [ended[point] for point in points]

    assert search(four_layers, backwards_in_threads) == search(four_layers, evaluate)


@pytest.mark.parametrize("search", SEARCHES)
def test_an_interrupted_search_goes_on_where_it_was(four_layers: ProductDomain, search: Search) -> None:
    evaluate, _ = linear_oracle(four_layers, 7)
    whole = search(four_layers, evaluate)
    for num_done in (0, 1, 6, len(whole[1]) - 1):
        log: dict[str, Evaluation] = {}

        def stops(points: Sequence[int], fidelity: Fidelity, log: dict[str, Evaluation], num: int) -> list[float]:
            for point, accuracy in zip(points, evaluate(points, fidelity), strict=True):
                if len(log) == num:
                    raise KeyboardInterrupt
                one = Evaluation(point, fidelity, accuracy)
                log[one.key] = one
            return evaluate(points, fidelity)

        with pytest.raises(KeyboardInterrupt):
            search(four_layers, lambda points, fidelity, log=log, num=num_done: stops(points, fidelity, log, num))
        assert len(log) == num_done
        asked: list[str] = []

        def asks(points: Sequence[int], fidelity: Fidelity, asked: list[str]) -> Sequence[float]:
            asked += [f"{fidelity}/{point}" for point in points]
            return evaluate(points, fidelity)

        known = list(log.values())[::-1]
        resumed = search(four_layers, lambda points, fidelity, asked=asked: asks(points, fidelity, asked), known)
        assert resumed == whole
        assert sorted(asked) == sorted({evaluation.key for evaluation in whole[1]} - {*log})


def test_equal_and_meaningless_accuracies_end_mfkd1(four_layers: ProductDomain) -> None:
    with pytest.raises(RuntimeError, match=r"all 30 low-fidelity accuracies are 0.01.*train longer"):
        mfkd1(four_layers, lambda points, _: [0.01] * len(points), Mfkd1Config())
    apart = PoolDomain(np.arange(12.0)[:, None])
    with pytest.raises(
        RuntimeError, match=r"the legacy process of 6 evaluations is degenerate .* choose gp 'wellposed'"
    ):
        mfkd1(apart, lambda points, _: [point % 2 for point in points], Mfkd1Config(max_samples=6, gp="legacy"))


def test_equal_accuracies_do_not_end_mfkd2(four_layers: ProductDomain) -> None:
    winner = mfkd2_step(four_layers, lambda points, _: [0.01] * len(points), "low", StepConfig())
    points = [evaluation.point for evaluation in winner.evaluations]
    assert len(set(points)) == 10
    assert winner.best.point == points[0]


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda d, e: mfkd1(d, e, Mfkd1Config(max_samples=13)), "13 distinct points were asked for and there are 12"),
        (
            lambda d, e: mfkd2_step(d, e, "low", StepConfig(max_samples=13)),
            "max_samples is 13, but there are 12 points",
        ),
        (lambda d, e: mfkd2_step(d, e, "low", StepConfig(), start=12), "the start is point 12: 0 to 11"),
        (lambda d, e: mf_kd(d, e, MfKdConfig(num_low=13, num_high=2)), "13 distinct points are needed"),
        (lambda d, e: mf_kd(d, e, MfKdConfig(num_low=12, num_high=2)), "lower max_samples|max_high"),
    ],
)
def test_searches_of_more_points_than_there_are_end(run: Callable[[Domain, Evaluate], object], reason: str) -> None:
    domain = PoolDomain(np.random.default_rng(0).normal(size=(12, 3)))
    with pytest.raises(ValueError, match=reason):
        run(domain, lambda points, _: [point / 12 for point in points])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Mfkd1Config(max_samples=1), "max_samples is 1"),
        (lambda: Mfkd1Config(risk=-1), "risk is -1"),
        (lambda: Mfkd1Config(seed=2**32), "seed is 4294967296"),
        (lambda: StepConfig(init_samples=0), "init_samples is 0"),
        (lambda: StepConfig(init_samples=11), r"init_samples is 11: 1 to max_samples \(10\)"),
        (lambda: StepConfig(kappa=float("nan")), "kappa is nan"),
        (lambda: StepConfig(gp="best"), "gp is 'best'"),  # type: ignore[arg-type]
        (lambda: StepConfig(target=70), "target is 70"),
        (lambda: MfKdConfig(num_high=0), "num_high is 0"),
        (lambda: MfKdConfig(num_low=10), r"num_high is 20: 1 to num_low \(10\)"),
        (lambda: MfKdConfig(max_high=19), r"max_high is 19: at least num_high \(20\)"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()
