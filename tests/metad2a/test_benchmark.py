import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from metad2a.benchmark import describe, expected_of_random_order, judge, ranks_among


def test_a_ranking_is_judged_by_what_it_puts_first() -> None:
    random = torch.Generator().manual_seed(0)
    scores, accuracies = torch.rand(100, generator=random), torch.rand(100, generator=random)
    found = judge(scores, accuracies)
    order = np.argsort(-scores.numpy(), kind="stable")
    ordered = accuracies.numpy()[order]
    assert found.top1 == pytest.approx(ordered[0])
    assert found.best_of_top == pytest.approx(ordered[:30].max())
    assert found.mean_of_top == pytest.approx(ordered[:30].mean())
    assert found.mean == pytest.approx(ordered.mean())
    assert found.spearman == pytest.approx(stats.spearmanr(scores, accuracies).statistic, abs=1e-6)
    assert f"top-1 {100 * found.top1:.2f} %" in describe(found)


def test_fewer_cells_than_thirty_are_all_at_the_top() -> None:
    found = judge(torch.tensor([0.3, 0.9]), torch.tensor([0.8, 0.6]))
    assert (found.top1, found.best_of_top) == pytest.approx((0.6, 0.8))
    assert judge(torch.tensor([0.3]), torch.tensor([0.8])).top1 == pytest.approx(0.8)


@pytest.mark.parametrize("size", [1, 5, 33])
def test_random_order_is_judged_by_its_expectation(size: int) -> None:
    accuracies = torch.rand(size, generator=torch.Generator().manual_seed(1))
    found = expected_of_random_order(accuracies)
    num = min(30, size)
    largest = [max(chosen) for chosen in itertools.combinations(accuracies.tolist(), num)]
    assert found.best_of_top == pytest.approx(np.mean(largest), abs=1e-6)
    assert found.top1 == found.mean_of_top == found.mean == pytest.approx(float(accuracies.mean()))


def test_a_rank_counts_the_cells_that_are_better() -> None:
    everything = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.7])
    ranks = ranks_among(everything, everything[[1, 4, 2, 3, 0]])
    assert ranks.tolist() == [1, 2, 3, 3, 5]
    assert ranks.tolist() == [1 + sum(value < other for other in everything) for value in everything[[1, 4, 2, 3, 0]]]
