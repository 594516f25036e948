"""The choice of points against an argmax over all of them."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from mfkd.acquisition import choose
from mfkd.domain import Block
from mfkd.gaussian_process import Array


def cut(mean: Array, std: Array, length: int = 7) -> Iterator[Block]:
    for first in range(0, len(mean), length):
        yield Block(first, mean[first : first + length].copy(), std[first : first + length].copy())


@pytest.mark.parametrize("kappa", [-0.5, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_the_largest_score_among_the_unseen(kappa: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    mean, std = random.normal(size=100), random.uniform(size=100)
    seen = random.choice(100, 40, replace=False).tolist()
    score = mean + kappa * std
    score[seen] = -np.inf
    for draws in (random, None):
        choice = choose(cut(mean, std), kappa, draws, seen)
        assert choice.point == score.argmax()
        assert (choice.mean, choice.std) == (mean[choice.point], std[choice.point])


def test_negative_scores_and_point_zero_are_like_any_other() -> None:
    mean = np.array([-0.3, -0.2, -0.9])
    assert choose(cut(mean, np.zeros(3)), 0.5, None).point == 1
    assert choose(cut(mean, np.zeros(3)), 0.5, None, [1]).point == 0


def test_every_one_of_equal_scores_is_as_likely_wherever_it_stands() -> None:
    mean = np.where(np.isin(np.arange(30), [0, 3, 6, 7, 20, 29]), 0.7, 0.1)
    mean[20] += 1e-16  # a rounding error makes no difference
    counts = Counter(
        choose(cut(mean, np.ones(30)), 0.5, np.random.default_rng(seed), [7]).point for seed in range(3000)
    )
    assert sorted(counts) == [0, 3, 6, 20, 29]
    # 600 expected, deviation 22
    assert all(abs(count - 600) < 5 * 22 for count in counts.values())


def test_without_a_generator_the_lowest_number_wins() -> None:
    mean = np.where(np.arange(30) >= 4, 0.7, 0.1)
    assert choose(cut(mean, np.ones(30)), 0.5, None).point == 4
    assert choose(cut(mean, np.ones(30)), 0.5, None, [4, 5]).point == 6
    mean[20] = np.nextafter(0.7, 1)
    assert choose(cut(mean, np.zeros(30)), 0.5, None).point == 20


def test_a_small_advantage_beats_many_equals() -> None:
    std = np.ones(50)
    std[33] += 1e-13
    for seed in range(20):
        assert choose(cut(np.zeros(50), std), 0.5, np.random.default_rng(seed)).point == 33


def test_nothing_left_and_damaged_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="all 3 points have been evaluated"):
        choose(cut(np.zeros(3), np.ones(3)), 0.5, None, range(3))
    with pytest.raises(RuntimeError, match="not a number"):
        choose(cut(np.array([0.1, np.nan]), np.ones(2)), 0.5, None)
