"""Which networks a step trains."""

from collections import Counter

import pytest
import torch

from common.spaces import MobileNetV3Arch
from common.supernet import Shrinking, networks_of_step

LARGEST, SMALLEST = MobileNetV3Arch.uniform(7, 6, 4), MobileNetV3Arch.uniform(3, 3, 2)


def draw(shrinking: Shrinking, step: int, num_steps: int = 100, seed: int = 0) -> list[MobileNetV3Arch]:
    return networks_of_step(shrinking, step, num_steps, torch.Generator().manual_seed(seed))


def test_a_sandwich_is_the_largest_some_random_ones_and_the_smallest() -> None:
    networks = draw(Shrinking(num_random=3), 0)
    assert len(networks) == 5
    assert (networks[0], networks[-1]) == (LARGEST, SMALLEST)
    assert len({*networks}) == 5


def test_random_networks_are_uniform_over_all_options() -> None:
    networks = draw(Shrinking(num_random=600, has_largest=False, has_smallest=False), 50)
    for values, options in (("kernels", (3, 5, 7)), ("expansions", (3, 4, 6)), ("depths", (2, 3, 4))):
        counts = Counter(value for arch in networks for value in getattr(arch, values))
        total = sum(counts.values())
        assert sorted(counts) == list(options)
        assert all(abs(count / total - 1 / 3) < 0.04 for count in counts.values())


def test_options_open_one_after_another() -> None:
    shrinking = Shrinking(kernels=(0.2, 0.3), depths=(0.4, 0.5), expansions=(0.6, 0.7), num_random=50)
    expected = {
        19: ({7}, {4}, {6}),
        20: ({5, 7}, {4}, {6}),
        30: ({3, 5, 7}, {4}, {6}),
        40: ({3, 5, 7}, {3, 4}, {6}),
        59: ({3, 5, 7}, {2, 3, 4}, {6}),
        60: ({3, 5, 7}, {2, 3, 4}, {4, 6}),
        70: ({3, 5, 7}, {2, 3, 4}, {3, 4, 6}),
    }
    for step, (kernels, depths, expansions) in expected.items():
        networks = draw(shrinking, step)
        assert {kernel for arch in networks for kernel in arch.kernels} == kernels
        assert {depth for arch in networks for depth in arch.depths} == depths
        assert {expansion for arch in networks for expansion in arch.expansions} == expansions
        smallest = MobileNetV3Arch.uniform(min(kernels), min(expansions), min(depths))
        assert networks[-1] == smallest
    assert draw(shrinking, 19) == [LARGEST]


def test_the_draws_of_a_step_are_those_of_its_generator() -> None:
    assert draw(Shrinking(), 3, seed=4) == draw(Shrinking(), 3, seed=4)
    assert draw(Shrinking(), 3, seed=4) != draw(Shrinking(), 3, seed=5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kernels": (0.5, 0.4)}, "kernels is 0.5 0.4"),
        ({"depths": (-0.1, 0.4)}, "depths"),
        ({"expansions": (0.0, 1.5)}, "expansions"),
        ({"num_random": -1}, "num_random is -1"),
        ({"num_random": 0, "has_largest": False, "has_smallest": False}, "nothing is"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_impossible_rules_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Shrinking(**changes)
