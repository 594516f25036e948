import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from tans.measures import chance, measure_predictions, measure_ranks, ranks_of


def test_aligned_pairs_are_found_at_once() -> None:
    found = measure_ranks(ranks_of(torch.eye(140), torch.eye(140)), 140)
    assert set(found.recall.values()) == {1.0}
    assert (found.median_rank, found.mean_rank) == (1, 1)


def test_ranks_are_those_of_a_double_loop() -> None:
    torch.manual_seed(0)
    queries, models = F.normalize(torch.randn(40, 6), dim=1), F.normalize(torch.randn(40, 6), dim=1)
    slow = [sum(float(queries[i] @ models[j]) > float(queries[i] @ models[i]) for j in range(40)) for i in range(40)]
    assert ranks_of(queries, models).tolist() == slow


def test_random_vectors_find_their_own_as_often_as_chance_says() -> None:
    torch.manual_seed(1)
    ranks = torch.cat(
        [
            ranks_of(F.normalize(torch.randn(140, 32), dim=1), F.normalize(torch.randn(140, 32), dim=1))
            for _ in range(40)
        ]
    )
    expected = chance(140)
    assert 100 * expected.recall[1] == pytest.approx(0.714, abs=1e-3)
    assert (100 * expected.recall[5], 100 * expected.recall[10]) == pytest.approx((3.571, 7.143), abs=1e-3)
    assert expected.mean_rank == 70.5
    deviation = math.sqrt(expected.recall[1] * (1 - expected.recall[1]) / len(ranks))
    assert abs(measure_ranks(ranks, 140).recall[1] - expected.recall[1]) < 3 * deviation


def test_the_median_is_rounded_down_as_published() -> None:
    assert measure_ranks(torch.tensor([0, 1, 2, 8]), 9).median_rank == 2
    assert measure_ranks(torch.tensor([0, 3, 4]), 9).median_rank == 4


def test_recalls_beyond_the_number_of_networks_are_left_out() -> None:
    assert set(measure_ranks(torch.tensor([0]), 12).recall) == {1, 5, 10}
    with pytest.raises(ValueError, match="at least one rank"):
        measure_ranks(torch.tensor([]), 3)


def test_predictions_are_measured_as_scipy_does() -> None:
    torch.manual_seed(2)
    predicted, accuracies = torch.rand(30), torch.rand(30)
    found = measure_predictions(predicted, accuracies)
    assert found.pearson == pytest.approx(stats.pearsonr(predicted, accuracies)[0])
    assert found.spearman == pytest.approx(stats.spearmanr(predicted, accuracies)[0])
    assert found.squared_error == pytest.approx(((predicted - accuracies) ** 2).mean().item(), rel=1e-6)
