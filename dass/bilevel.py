"""The bilevel objective: what the query students lose after one adaptation to their task's teacher.

With predictor f, weights phi, step sizes alpha, teacher t of accuracy y_t and query students s_i of accuracy y_i:

    inner loss   l(phi) = (f(t; phi) - y_t)**2, the teacher standing in the student's place
    adaptation   phi' = phi - alpha * grad l(phi), element by element
    outer loss   L(phi, alpha) = mean_i (f(s_i; phi') - y_i)**2

Source: Lee et al., ICLR 2023, teacher-guided adaptation; released code for the losses.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from common.meta.adaptation import Params, adapt
from dass.episodes import TaskTensors

_FIELDS = ("student", "codes", "accuracy", "teacher", "teacher_code", "teacher_accuracy")


def bilevel_loss(
    predictor: nn.Module,
    params: Params,
    step_sizes: Mapping[str, Tensor] | None,
    tasks: Sequence[TaskTensors],
    *,
    num_steps: int = 1,
    first_order: bool = False,
) -> tuple[Tensor, Tensor]:
    """Outer and inner loss, each summed over tasks.

    Args:
        predictor: gives the form of f; its own weights are not read.
        params: phi.
        step_sizes: alpha; None leaves out the adaptation.
        tasks: one, or several of equal numbers of query students, which are then computed at once.
        num_steps: adaptation steps.
        first_order: ignore second derivatives.

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
    return _summed_error(predict(adapted, student, codes, teacher), accuracy), inner[0]


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
