"""The inner step: its formula, its derivatives of first and second order, chains of steps, several tasks at once."""

import pytest
import torch
from torch import Tensor

from common.meta.adaptation import Params, adapt


def make(seed: int = 0) -> tuple[Params, Params]:
    random = torch.Generator().manual_seed(seed)
    params = {
        "weight": torch.randn(3, 4, dtype=torch.float64, generator=random),
        "bias": torch.randn(3, dtype=torch.float64, generator=random),
    }
    steps = {
        name: 0.1 * torch.randn(value.shape, dtype=torch.float64, generator=random) for name, value in params.items()
    }
    return ({n: v.requires_grad_() for n, v in params.items()}, {n: v.requires_grad_() for n, v in steps.items()})


def loss_on(seed: int):  # type: ignore[no-untyped-def]
    point = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(100 + seed))

    def loss(params: Params) -> Tensor:
        return (torch.tanh(params["weight"] @ point + params["bias"]) - 0.3).square().sum()

    return loss


def test_a_step_size_of_zero_changes_nothing() -> None:
    params, steps = make()
    adapted = adapt(loss_on(1), params, {name: torch.zeros_like(value) for name, value in steps.items()})
    assert all(torch.equal(adapted[name], params[name]) for name in params)


@pytest.mark.parametrize("first_order", [True, False])
def test_two_steps_equal_two_explicit_steps_of_gradient_descent(first_order: bool) -> None:
    params, steps = make()
    by_hand = {name: value.detach().clone() for name, value in params.items()}
    for _ in range(2):
        leaves = {name: value.clone().requires_grad_() for name, value in by_hand.items()}
        gradients = torch.autograd.grad(loss_on(1)(leaves), list(leaves.values()))
        by_hand = {n: by_hand[n] - steps[n].detach() * g for n, g in zip(leaves, gradients, strict=True)}
    adapted = adapt(loss_on(1), params, steps, num_steps=2, first_order=first_order)
    for name in params:
        torch.testing.assert_close(adapted[name].detach(), by_hand[name], atol=1e-14, rtol=1e-14)


def outer(params: Params, steps: Params, *, num_steps: int = 1, first_order: bool = False) -> tuple[Tensor, Params]:
    adapted = adapt(loss_on(1), params, steps, num_steps=num_steps, first_order=first_order)
    return loss_on(2)(adapted), adapted


def test_first_and_second_order_differ_in_the_gradient_of_the_parameters_alone() -> None:
    params, steps = make()
    leaves = [*params.values(), *steps.values()]
    (second, _), (first, _) = outer(params, steps), outer(params, steps, first_order=True)
    assert torch.equal(first, second)
    of_second, of_first = torch.autograd.grad(second, leaves), torch.autograd.grad(first, leaves)
    assert all(torch.allclose(a, b, atol=1e-14) for a, b in zip(of_second[2:], of_first[2:], strict=True))
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(of_second[:2], of_first[:2], strict=True))


def test_the_gradient_of_a_step_size_is_minus_the_outer_times_the_inner_gradient() -> None:
    params, steps = make()
    loss, adapted = outer(params, steps)
    inner = torch.autograd.grad(loss_on(1)(params), list(params.values()))
    of_adapted = torch.autograd.grad(loss, list(adapted.values()), retain_graph=True)
    of_steps = torch.autograd.grad(loss, list(steps.values()))
    for found, outside, inside in zip(of_steps, of_adapted, inner, strict=True):
        torch.testing.assert_close(found, -outside * inside, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_second_order_gradient_equals_finite_differences(num_steps: int) -> None:
    params, steps = make()
    names = list(params)

    def of_leaves(*leaves: Tensor) -> Tensor:
        given = dict(zip(names, leaves[:2], strict=True)), dict(zip(names, leaves[2:], strict=True))
        return outer(*given, num_steps=num_steps)[0]

    assert torch.autograd.gradcheck(of_leaves, [*params.values(), *steps.values()])


def test_tasks_along_a_leading_axis_are_adapted_as_if_alone() -> None:
    params, steps = make()
    together = {name: value.expand(3, *value.shape) for name, value in params.items()}

    def summed(stacked: Params) -> Tensor:
        return torch.stack([loss_on(task)({n: v[task] for n, v in stacked.items()}) for task in range(3)]).sum()

    at_once = adapt(summed, together, steps, num_steps=2)
    for task in range(3):
        alone = adapt(loss_on(task), params, steps, num_steps=2)
        for name in params:
            torch.testing.assert_close(at_once[name][task], alone[name], atol=1e-14, rtol=1e-14)


def test_a_parameter_that_the_loss_does_not_use_stays_as_it_is() -> None:
    params, steps = make()
    extra = torch.ones(2, dtype=torch.float64, requires_grad=True)
    adapted = adapt(loss_on(1), params | {"unused": extra}, steps | {"unused": extra})
    assert torch.equal(adapted["unused"], extra)


def test_a_missing_step_size_and_a_negative_number_of_steps_are_refused() -> None:
    params, steps = make()
    with pytest.raises(ValueError, match="differ in bias"):
        adapt(loss_on(1), params, {"weight": steps["weight"]})
    with pytest.raises(ValueError, match="num_steps is -1"):
        adapt(loss_on(1), params, steps, num_steps=-1)
