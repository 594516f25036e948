import numpy as np
import pytest
import torch

from tans.growth import Ensemble, Growth, choose, expected_gains, hypervolume

DRAWS = np.random.default_rng(0)


def area(costs: np.ndarray, accuracies: np.ndarray, num: int = 200_000) -> float:
    """By Monte Carlo, from the definition."""
    points = np.random.default_rng(1).uniform(size=(num, costs.shape[1]))
    best = np.zeros(num)
    for cost, accuracy in zip(costs, accuracies, strict=True):
        best = np.maximum(best, np.where((cost <= points).all(1), accuracy, 0))
    return float(best.mean())


@pytest.mark.parametrize("num_costs", [1, 2])
def test_the_hypervolume_is_the_mean_of_the_best_accuracy_over_costs(num_costs: int) -> None:
    costs, accuracies = DRAWS.uniform(size=(7, num_costs)), DRAWS.uniform(size=7)
    assert hypervolume(costs, accuracies) == pytest.approx(area(costs, accuracies), abs=4e-3)
    assert hypervolume(np.zeros((1, num_costs)), np.array([0.7])) == pytest.approx(0.7)
    assert hypervolume(np.zeros((0, num_costs)), np.zeros(0)) == 0


@pytest.mark.parametrize("num_costs", [1, 2])
def test_a_certain_gain_is_the_rise_of_the_hypervolume(num_costs: int) -> None:
    costs, accuracies = DRAWS.uniform(size=(5, num_costs)), DRAWS.uniform(size=5)
    candidates, means = DRAWS.uniform(size=(6, num_costs)), DRAWS.uniform(size=6)
    gains = expected_gains(costs, accuracies, candidates, means, np.full(6, 1e-9))
    for place in range(6):
        more = hypervolume(np.vstack([costs, candidates[place]]), np.append(accuracies, means[place]))
        assert gains[place] == pytest.approx(more - hypervolume(costs, accuracies), abs=1e-6)


def test_an_uncertain_gain_is_the_mean_over_draws() -> None:
    costs, accuracies = DRAWS.uniform(size=(4, 1)), DRAWS.uniform(0.3, 0.7, size=4)
    candidate = np.array([[0.2]])
    gain = expected_gains(costs, accuracies, candidate, np.array([0.5]), np.array([0.1]))[0]
    drawn = np.random.default_rng(3).normal(0.5, 0.1, size=4000)
    before = hypervolume(costs, accuracies)
    rises = [hypervolume(np.vstack([costs, candidate]), np.append(accuracies, a)) - before for a in drawn]
    assert gain == pytest.approx(np.mean(rises), abs=4 * np.std(rises) / len(rises) ** 0.5)


def test_a_round_takes_the_best_first_and_counts_on_it() -> None:
    growth = Growth(kind="pareto", batch=3, least_gain=1e-6)
    known = [(0, np.array([0.5]), 0.5)]
    candidates = [(0, np.array([0.1])), (0, np.array([0.1])), (0, np.array([0.9])), (1, np.array([0.3]))]
    means, deviations = np.array([0.8, 0.79, 0.9, 0.2]), np.full(4, 1e-9)
    assert choose(known, candidates, means, deviations, growth) == [0, 3, 2]
    assert choose(known, candidates, means * 0, deviations, growth) == []


def toy(archs: torch.Tensor, dataset: torch.Tensor) -> torch.Tensor:
    """Accuracies of a tabulated problem: rising with size, with settings that help in one dataset only."""
    useful = (archs * torch.sin(1.7 * dataset[:, None] + torch.arange(archs.shape[1]))).sum(1)
    return torch.sigmoid(0.8 * useful - 0.5 * dataset)


def test_growing_along_the_fronts_beats_growing_at_random_at_equal_budget() -> None:
    wins, budget = 0, 36
    for seed in range(5):
        draws = torch.Generator().manual_seed(seed)
        archs = torch.randint(0, 3, (400, 8), generator=draws).float() - 1
        dataset = torch.randint(0, 3, (400,), generator=draws)
        accuracies = toy(archs, dataset.float())
        costs = ((archs.sum(1) + 8) / 16).double().numpy()[:, None]
        codes = torch.cat([archs, torch.nn.functional.one_hot(dataset, 3).float()], 1)
        order = torch.randperm(400, generator=draws).tolist()
        grown, growth = order[:12], Growth(kind="pareto", batch=8, least_gain=0.0)
        while len(grown) < budget:
            left = [row for row in range(400) if row not in grown]
            means, deviations = Ensemble(codes[grown], accuracies[grown], seed).predict(codes[left])
            known = [(int(dataset[row]), costs[row], float(accuracies[row])) for row in grown]
            picked = choose(known, [(int(dataset[row]), costs[row]) for row in left], means, deviations, growth)
            grown = [*grown, *(left[place] for place in picked)][:budget]
        volumes = []
        for rows in (grown, order[:budget]):
            of_sets = [[row for row in rows if dataset[row] == number] for number in range(3)]
            volumes.append(np.mean([hypervolume(costs[one], accuracies[one].double().numpy()) for one in of_sets]))
        wins += volumes[0] >= volumes[1]
    assert wins >= 4


def test_the_ensemble_fits_and_is_less_sure_of_what_it_has_seen_less_of() -> None:
    inputs = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    accuracies = torch.sigmoid(3 * inputs[:, 0] - 4 * inputs[:, 1] * inputs[:, 2])
    ensemble = Ensemble(inputs, accuracies, 0)
    means, deviations = ensemble.predict(inputs)
    assert np.abs(means - accuracies.numpy()).mean() < 0.05
    elsewhere = torch.rand(50, 6, generator=torch.Generator().manual_seed(1))
    few = Ensemble(inputs[:8], accuracies[:8], 0)
    assert few.predict(elsewhere)[1].mean() > 1.5 * ensemble.predict(elsewhere)[1].mean()
    assert np.array_equal(deviations, Ensemble(inputs, accuracies, 0).predict(inputs)[1])
