"""Distinct architectures under a condition."""

import pytest
import torch

from common.spaces import ResNetArch, ResNetSpace, sample_distinct, within_bounds

SPACE = ResNetSpace()
TINY = ResNetSpace(teacher_widths=(16, 16, 16, 16), max_depth=1)  # 729 architectures


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_architectures_are_distinct_where_plain_samples_repeat() -> None:
    found = sample_distinct(TINY, 400, draws())
    assert len(found) == len(set(found)) == 400
    assert len(set(TINY.sample(400, draws()))) < 400


def test_the_order_is_that_of_the_first_draws() -> None:
    assert sample_distinct(SPACE, 50, draws(2)) == SPACE.sample(50, draws(2))


def test_a_pool_repeats_with_the_seed() -> None:
    assert sample_distinct(TINY, 100, draws(1)) == sample_distinct(TINY, 100, draws(1))
    assert sample_distinct(TINY, 100, draws(1)) != sample_distinct(TINY, 100, draws(2))


def test_only_accepted_architectures_are_drawn() -> None:
    def light(arch: ResNetArch) -> bool:
        return SPACE.cost(arch, 40, 64).num_params < 1_500_000

    found = sample_distinct(SPACE, 30, draws(), accept=light)
    assert len(found) == 30
    assert all(map(light, found))


def test_excluded_architectures_are_never_drawn() -> None:
    first = sample_distinct(SPACE, 40, draws())
    others = sample_distinct(SPACE, 40, draws(), exclude=set(first[::2]))
    assert len(others) == 40
    assert not set(others) & set(first[::2])
    assert others[:20] == first[1::2]


def test_a_space_can_be_drawn_out_to_its_last_architecture() -> None:
    assert len(sample_distinct(TINY, TINY.size(), draws())) == TINY.size()


def test_an_impossible_condition_ends_with_nothing() -> None:
    assert sample_distinct(TINY, 5, draws(), accept=lambda arch: False) == []
    assert sample_distinct(TINY, 1, draws(), exclude=set(sample_distinct(TINY, 729, draws()))) == []


def test_asking_for_more_than_there_are_gives_all() -> None:
    space = ResNetSpace(teacher_widths=(16, 16, 16, 16), max_depth=1, pin="stage")
    assert sample_distinct(space, 4, draws()) == [space.teacher]


def test_asking_for_none_gives_none() -> None:
    assert sample_distinct(SPACE, 0, draws()) == []


def test_bounds_accept_exactly_what_costs_no_more() -> None:
    archs = SPACE.sample(200, draws(3))
    costs = [SPACE.cost(arch, 40, 64) for arch in archs]
    max_params, max_macs = costs[0].num_params, costs[1].macs
    both = within_bounds(SPACE, 40, 64, max_params=max_params, max_macs=max_macs)
    assert [both(arch) for arch in archs] == [c.num_params <= max_params and c.macs <= max_macs for c in costs]
    assert within_bounds(SPACE, 40, 64, max_params=max_params)(archs[0])
    assert not within_bounds(SPACE, 40, 64, max_params=max_params - 1)(archs[0])
    assert all(map(within_bounds(SPACE, 40, 64), archs))


@pytest.mark.parametrize("name", ["max_params", "max_macs"])
def test_bounds_that_nothing_can_meet_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} 0: a positive number or no bound is needed"):
        within_bounds(SPACE, 40, 64, **{name: 0})
