"""Optimiser and schedule of EfficientNet's recipe, against the published numbers and by hand."""

import pytest
import torch
from torch import nn

from common.kd.optimizers import build_optimizer
from common.kd.recipe import Recipe
from common.kd.schedules import learning_rate
from dna.retrain import RECIPE

STEPS = 7


def test_rates_are_those_that_the_release_prints() -> None:
    rates = [learning_rate(RECIPE, epoch * STEPS, 500 * STEPS) for epoch in (*range(6), 499)]
    assert rates == pytest.approx([0.0001, 0.01288, 0.02566, 0.03844, 0.05122, 0.061632, 1.2250212904536253e-4])


def test_a_rate_changes_with_the_epoch_alone() -> None:
    for epoch in (0, 3, 5, 17):
        rates = {learning_rate(RECIPE, epoch * STEPS + step, 500 * STEPS) for step in range(STEPS)}
        assert len(rates) == 1


def test_a_warm_up_begins_any_schedule() -> None:
    recipe = Recipe(epochs=10, learning_rate=1.0, warmup_epochs=2)
    assert learning_rate(recipe, 0, 100) == 1e-4
    assert learning_rate(recipe, 10, 100) == pytest.approx(0.50005)
    assert learning_rate(recipe, 20, 100) == learning_rate(Recipe(epochs=10, learning_rate=1.0), 20, 100)


def test_first_steps_of_rmsprop_follow_tensorflow() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    recipe = Recipe(optimizer="rmsproptf", learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    optimizer = build_optimizer([*layer.parameters()], recipe)
    squares = {name: torch.ones_like(value) for name, value in layer.named_parameters()}
    moments = {name: torch.zeros_like(value) for name, value in layer.named_parameters()}
    for _ in range(3):
        before = {name: value.detach().clone() for name, value in layer.named_parameters()}
        optimizer.zero_grad()
        layer(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        for name, value in layer.named_parameters():
            assert value.grad is not None
            gradient = value.grad + (0.01 * before[name] if value.ndim > 1 else 0)
            squares[name] = 0.9 * squares[name] + 0.1 * gradient**2
            moments[name] = 0.9 * moments[name] + 0.1 * gradient / (squares[name] + 1e-3).sqrt()
            torch.testing.assert_close(value.detach(), before[name] - moments[name])


@pytest.mark.parametrize(("field", "value"), [("decay_epochs", 0.0), ("warmup_epochs", -1)])
def test_wrong_values_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        Recipe(**{field: value})  # type: ignore[arg-type]
