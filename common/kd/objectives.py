"""The training loss of a recipe, from a student's and a teacher's outputs."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from common.kd import losses
from common.kd.recipe import FEATURE_LOSSES, Recipe

HINT_TAP = 2
"""Map that the hint loss compares: stage 2 of (stem, stages 1 to 4)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """What a network says about a batch."""

    logits: Tensor
    """(B, K)."""
    maps: tuple[Tensor, ...] = ()
    """Each (B, C, H, W): stem, stages; empty where the loss needs none."""


def needs_maps(recipe: Recipe) -> bool:
    """Whether the recipe's loss compares feature maps."""
    return recipe.loss in FEATURE_LOSSES


def run_network(network: nn.Module, images: Tensor, *, with_maps: bool, who: str) -> Outputs:
    """One forward pass, with feature maps where the loss needs them.

    Raises:
        ValueError: maps are needed and the network has no `features_and_logits`.
    """
    if not with_maps:
        return Outputs(logits=network(images))
    both = getattr(network, "features_and_logits", None)
    if both is None:
        raise ValueError(
            f"{who} ({type(network).__name__}) has no features_and_logits, which feature losses need: "
            "take --recipe.loss kd, or a network of our residual family"
        )
    maps, logits = both(images)
    return Outputs(logits=logits, maps=tuple(maps))


def build_regressor(recipe: Recipe, student: Outputs, teacher: Outputs | None) -> nn.Module | None:
    """1x1 convolution from the student's hinted map to the teacher's channels, drawn from the global generator."""
    if recipe.loss != "hint" or teacher is None:
        return None
    return nn.Conv2d(student.maps[HINT_TAP].shape[1], teacher.maps[HINT_TAP].shape[1], kernel_size=1)


def objective(
    recipe: Recipe, student: Outputs, teacher: Outputs | None, labels: Tensor, regressor: nn.Module | None
) -> Tensor:
    """Training loss in float32 (or better), a scalar.

    ce and kd as `losses`; a feature loss is the cross-entropy plus beta times its term: nst and attention summed over
    the middle maps (the first and the last dropped), similarity and pkt on the last map, hint on map 2.

    Source: MFKD, the published losses; DaSS for kd.
    """
    logits = _full(student.logits)
    if recipe.loss == "kd":
        assert teacher is not None
        return losses.distillation_loss(
            logits,
            _full(teacher.logits),
            labels,
            temperature=recipe.temperature,
            alpha=recipe.alpha,
            label_smoothing=recipe.label_smoothing,
        )
    hard = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher is None:
        return hard
    return hard + recipe.beta * _feature_term(recipe, student.maps, teacher.maps, regressor)


def _feature_term(
    recipe: Recipe, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], regressor: nn.Module | None
) -> Tensor:
    ours, theirs = [_full(features) for features in student], [_full(features) for features in teacher]
    if recipe.loss == "hint":
        assert regressor is not None
        return losses.hint_loss(regressor(ours[HINT_TAP]), theirs[HINT_TAP])
    if recipe.loss == "similarity":
        return losses.similarity_loss(ours[-1], theirs[-1])
    if recipe.loss == "pkt":
        return losses.pkt_loss(ours[-1], theirs[-1])
    term = losses.nst_loss if recipe.loss == "nst" else losses.attention_loss
    middle = zip(ours[1:-1], theirs[1:-1], strict=True)
    return sum((term(mine, its) for mine, its in middle), start=ours[0].new_zeros(()))


def _full(values: Tensor) -> Tensor:
    """Losses are computed in float32 where autocast left half precision."""
    return values.float() if values.itemsize < 4 else values
