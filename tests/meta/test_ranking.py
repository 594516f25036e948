"""Correlations against SciPy, and what counts as undefined."""

import math

import pytest
import torch
from scipy import stats

from common.meta.ranking import is_undefined, kendall, pearson, spearman


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_values", [4, 1000])
def test_correlations_equal_scipy_with_and_without_ties(seed: int, num_values: int) -> None:
    random = torch.Generator().manual_seed(seed)
    first = torch.randint(0, num_values, (60,), generator=random).float()
    second = (first + torch.randint(0, num_values, (60,), generator=random)).float()
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-12)
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first.double(), second.double()).statistic, abs=1e-12)


@pytest.mark.parametrize("measure", [spearman, kendall, pearson])
def test_an_increasing_line_gives_one_and_a_falling_one_minus_one(measure: object) -> None:
    line = torch.linspace(0, 1, 9)
    assert measure(line, 3 * line + 1) == pytest.approx(1)  # type: ignore[operator]
    assert measure(line, -line) == pytest.approx(-1)  # type: ignore[operator]


@pytest.mark.parametrize("measure", [spearman, kendall, pearson])
@pytest.mark.parametrize("broken", [torch.full((5,), 0.3), torch.tensor([0, 1, 2, 3, math.nan])])
def test_constant_or_broken_predictions_count_as_minus_one_and_are_told_apart(measure: object, broken: object) -> None:
    labels = torch.arange(5.0)
    assert measure(broken, labels) == -1  # type: ignore[operator]
    assert is_undefined(broken, labels)  # type: ignore[arg-type]
    assert not is_undefined(-labels, labels)


def test_vectors_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"given \(3,\) and \(4,\)"):
        spearman(torch.arange(3.0), torch.arange(4.0))
