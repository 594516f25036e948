"""The bilevel objective: what the query students lose after one adaptation to their task's teacher.

With predictor f, weights phi, step sizes alpha, teacher t of accuracy y_t and query students s_i of accuracy y_i:

    inner loss   l(phi) = (f(t; phi) - y_t)**2, the teacher standing in the student's place
    adaptation   phi' = phi - alpha * grad l(phi), element by element
    outer loss   L(phi, alpha) = mean_i (f(s_i; phi') - y_i)**2

Tasks of unlike difficulty differ by tens of points and their students by a few, and then this loss is about the level
of a task and hardly about its ranking. The outer loss "standardised", which is ours, compares f(s_i; phi') less its
mean over the query students with y_i less its mean, in units of the standard deviation of the y_i, so that only
differences between students count, alike in every task. Predictions then have no level: they rank.

Source: Lee et al., ICLR 2023, teacher-guided adaptation; released code for the losses.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from common.meta.adaptation import Params, adapt
from dass.episodes import TaskTensors

OuterLoss = Literal["error", "standardised"]
_LEAST_SPREAD = 1e-3  # a tenth of a point: below it, differences between students are noise
_FIELDS = ("student", "codes", "accuracy", "teacher", "teacher_code", "teacher_accuracy")


def bilevel_loss(
    predictor: nn.Module,
    params: Params,
    step_sizes: Mapping[str, Tensor] | None,
    tasks: Sequence[TaskTensors],
    *,
    num_steps: int = 1,
    first_order: bool = False,
    outer: OuterLoss = "error",
) -> tuple[Tensor, Tensor]:
    """Outer and inner loss, each summed over tasks.

    Args:
        predictor: gives the form of f; its own weights are not read.
        params: phi.
        step_sizes: alpha; None leaves out the adaptation.
        tasks: one, or several of equal numbers of query students, which are then computed at once.
        num_steps: adaptation steps.
        first_order: ignore second derivatives.
        outer: the outer loss, the published squared error or ours.

    Returns:
        Two scalars: L, and l before adaptation (a constant for gradients).
    """
    predict, params, data = _form(predictor, params, tasks)
    student, codes, accuracy, teacher, teacher_code, teacher_accuracy = data
    inner: list[Tensor] = []

    def inner_loss(at: Params) -> Tensor:
        loss = _summed_error(predict(at, teacher, teacher_code, teacher), teacher_accuracy)
        inner.append(loss.detach())
        return loss

    if step_sizes is None:
        with torch.no_grad():
            inner_loss(params)
        adapted = params
    else:
        adapted = adapt(inner_loss, params, step_sizes, num_steps=num_steps, first_order=first_order)
    predicted = predict(adapted, student, codes, teacher)
    if outer == "standardised":
        return _standardised_error(predicted, accuracy), inner[0]
    return _summed_error(predicted, accuracy), inner[0]


def _form(
    predictor: nn.Module, params: Params, tasks: Sequence[TaskTensors]
) -> tuple[Callable[..., Tensor], Params, tuple[Tensor, ...]]:
    """The forward pass, the weights and the data of one task, or all with a leading axis of several tasks."""

    def predict(at: Params, student: Tensor, codes: Tensor, teacher: Tensor) -> Tensor:
        scores: Tensor = functional_call(predictor, at, (student, codes, teacher))
        return scores

    if len(tasks) == 1:
        return predict, params, tuple(getattr(tasks[0], name) for name in _FIELDS)
    stacked = tuple(torch.stack([getattr(task, name) for task in tasks]) for name in _FIELDS)
    return vmap(predict), {name: value.expand(len(tasks), *value.shape) for name, value in params.items()}, stacked


def _summed_error(predicted: Tensor, accuracy: Tensor) -> Tensor:
    """Mean squared error over students, summed over tasks: (n,) or (tasks, n) -> scalar."""
    return (predicted - accuracy).square().mean(-1).sum()


def _standardised_error(predicted: Tensor, accuracy: Tensor) -> Tensor:
    """The same of differences from the mean student, in units of the accuracies' standard deviation."""
    spread = accuracy.std(-1, correction=0).clamp_min(_LEAST_SPREAD).unsqueeze(-1)
    centred = accuracy - accuracy.mean(-1, keepdim=True)
    difference = predicted - predicted.mean(-1, keepdim=True) - centred / spread
    return difference.square().mean(-1).sum()
