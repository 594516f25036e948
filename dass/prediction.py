"""Score candidates for a task: adapt the predictor on the teacher's own accuracy, then predict.

Source: Lee et al., ICLR 2023, teacher-guided adaptation; here without the graph of second derivatives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from common.meta.adaptation import Params, adapt
from dass.predictor import Predictor


@dataclass(frozen=True, eq=False)
class Prediction:
    """Scores of candidates on one task.

    Attributes:
        scores: (N,) predictions on the CPU. They rank; they are no calibrated accuracies.
        error_before: squared error on the teacher before adaptation.
        error_after: and after it; equal without adaptation.
    """

    scores: Tensor
    error_before: float
    error_after: float


def adapt_and_predict(
    predictor: Predictor,
    step_sizes: Mapping[str, Tensor] | None,
    teacher_map: Tensor,
    teacher_code: Tensor,
    teacher_accuracy: float,
    *,
    maps: Tensor,
    codes: Tensor,
    num_steps: int = 1,
    chunk: int = 250,
) -> Prediction:
    """Adapt to a teacher and predict the accuracies of candidates. Weights and step sizes stay as they are.

    All tensors lie on the predictor's device. Maps may be given as `map_patches`, students' and teacher's alike.

    Args:
        predictor: meta-trained.
        step_sizes: by parameter name; None predicts without adaptation.
        teacher_map: (1, C, side, side).
        teacher_code: (1, arch_dim).
        teacher_accuracy: its own, a fraction in [0, 1].
        maps: (N, C, side, side) of the candidates.
        codes: (N, arch_dim).
        num_steps: adaptation steps.
        chunk: candidates predicted at once; bounds the memory.

    Raises:
        ValueError: the teacher's accuracy is no fraction, or maps and codes differ in number.
    """
    if not 0 <= teacher_accuracy <= 1:
        raise ValueError(f"the teacher's accuracy is {teacher_accuracy:g}; a fraction in [0, 1] is needed")
    if len(maps) != len(codes):
        raise ValueError(f"{len(maps)} maps for {len(codes)} codes; one each is needed")

    def predict(params: Params, student: Tensor, code: Tensor) -> Tensor:
        scores: Tensor = functional_call(predictor, params, (student, code, teacher_map))
        return scores

    def error(params: Params) -> Tensor:
        return (predict(params, teacher_map, teacher_code) - teacher_accuracy).square().mean()

    params = {name: weight.detach() for name, weight in predictor.named_parameters()}
    adapted = params if step_sizes is None else _adapted(error, params, step_sizes, num_steps)
    with torch.no_grad():
        pairs = zip(torch.split(maps, chunk), torch.split(codes, chunk), strict=True)
        scores = torch.cat([predict(adapted, student, code) for student, code in pairs])
        return Prediction(scores.cpu(), float(error(params)), float(error(adapted)))


def _adapted(error: Callable[[Params], Tensor], params: Params, step_sizes: Mapping[str, Tensor], num: int) -> Params:
    """`adapt` without a graph to the weights and step sizes, also where the caller has switched gradients off."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in params.items()}
    fixed = {name: step_size.detach() for name, step_size in step_sizes.items()}
    with torch.enable_grad():
        adapted = adapt(error, leaves, fixed, num_steps=num, first_order=True)
    return {name: weight.detach() for name, weight in adapted.items()}
