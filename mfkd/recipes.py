"""The trainers of pipeline files as recipes of the one trainer that we have.

Source: Trofimov et al., arXiv 2006.08341, released code: for Vega (files), RepDistiller and NAS-Bench-201
(losses).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from common.experiment.config import UsageError
from common.kd.recipe import Recipe
from mfkd.fields import Fields

_SEED = 7  # of the released code
Settings = dict[str, Any]
"""Some fields of a `Recipe`."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the networks of a step are trained.

    Attributes:
        recipe: settings of the trainer.
        seed: every network has a seed of its own, derived from this one.
        teacher: file of the teacher's weights; None where the loss has no teacher.
        teacher_num_classes: outputs of the teacher; None for those of the dataset.
    """

    recipe: Recipe
    seed: int = _SEED
    teacher: str | None = None
    teacher_num_classes: int | None = None


def read_trainer(fields: Fields, images: Mapping[str, Any]) -> Training:
    """The section `trainer` of a step.

    Weights of losses are converted: the alpha of KDLoss is on the teacher's term, ours on the labels'. Learning rates
    follow the same curves, but change with every step, where the released code changes them with every epoch.

    Args:
        fields: the section, in the old dialect (`optim`, flat) or the new one (`optimizer` with `params`).
        images: what the section `dataset` says of a recipe: batch size and augmentation.

    Raises:
        UsageError: an unknown key or type, a value out of range, or a loss that does not go with the trainer.
    """
    with_teacher = fields.choice("type", {"Trainer": False, "MFKDTrainer": True}, "Trainer")
    epochs = fields.integer("epochs")
    every = fields.one_of("valid_interval", "valid_freq")
    settings: Settings = {"epochs": epochs, "validate_every": fields.integer(every, epochs), **images}
    optimizer, place = _typed(fields, fields.one_of("optimizer", "optim"), _OPTIMIZERS, "SGD")
    settings |= _finished(optimizer(place), place)
    if "lr_scheduler" in fields:
        schedule, place = _typed(fields, "lr_scheduler", _SCHEDULES, None)
        settings |= _finished(schedule(place, epochs), place)
    else:
        settings |= _constant()
    loss, place = _typed(fields, "loss", _LOSSES, "CrossEntropyLoss")
    settings |= _finished(loss(place), place)
    if with_teacher != (settings["loss"] != "ce"):
        raise UsageError(f"{fields.path}: MFKDTrainer goes with KDLoss or NSTLoss, and Trainer with CrossEntropyLoss")
    seed = fields.integer("seed", _SEED)
    teacher = fields.text("teacher") if with_teacher else None
    outputs = fields.integer("teacher_num_classes") if with_teacher and "teacher_num_classes" in fields else None
    if not with_teacher:
        fields.without_effect("a Trainer has no teacher", "teacher", "teacher_num_classes")
    fields.without_effect("a trainer of ours measures accuracy", "metric", "report_freq", "save_steps", "cuda")
    fields.finish()
    try:
        recipe = Recipe(**settings)
    except ValueError as error:
        raise UsageError(f"{fields.path}: {error}") from error
    return Training(recipe=recipe, seed=seed, teacher=teacher, teacher_num_classes=outputs)


def _typed(fields: Fields, key: str, options: Mapping[str, Any], default: str | None) -> tuple[Any, Fields]:
    """What a type stands for, and where its parameters are: beside it, or below `params`."""
    inner = fields.inner(key)
    chosen = inner.choice("type", options, default)
    if "params" not in inner:
        return chosen, inner
    inner.finish()
    return chosen, inner.inner("params")


def _finished(settings: Settings, fields: Fields) -> Settings:
    fields.finish()
    return settings


def _sgd(fields: Fields) -> Settings:
    return {
        "optimizer": "sgd",
        "learning_rate": fields.number("lr", 0.1),
        "momentum": fields.number("momentum", 0.0),
        "weight_decay": fields.number("weight_decay", 0.0),
        "nesterov": fields.truth("nesterov", False),
    }


def _adamw(fields: Fields) -> Settings:
    decay = fields.number("weight_decay", 0.01)
    return {"optimizer": "adamw", "learning_rate": fields.number("lr", 1e-3), "weight_decay": decay}


def _adam(fields: Fields) -> Settings:
    """Adam without weight decay is AdamW without it."""
    if fields.number("weight_decay", 0.0) != 0:
        raise UsageError(f"{fields.at('weight_decay')}: Adam is offered without weight decay; take AdamW")
    return {"optimizer": "adamw", "learning_rate": fields.number("lr", 1e-3), "weight_decay": 0.0}


def _cosine(fields: Fields, epochs: int) -> Settings:
    length = fields.integer("T_max", epochs)
    if length != epochs:
        raise UsageError(f"{fields.at('T_max')} is {length}: the cosine ends with the last epoch, so give {epochs}")
    if fields.number("eta_min", 0.0) != 0:
        raise UsageError(f"{fields.at('eta_min')}: the cosine ends at 0, leave eta_min out")
    return {"schedule": "cosine"}


def _multi_step(fields: Fields, epochs: int) -> Settings:
    given = fields.get("milestones")
    if not isinstance(given, list) or not all(type(one) is int and one > 0 for one in given):
        raise UsageError(f"{fields.at('milestones')} is {given!r}: a list of epochs is needed")
    reached = tuple(one / epochs for one in given if one < epochs)
    return {"schedule": "step", "milestones": reached, "gamma": fields.number("gamma", 0.1)}


def _constant() -> Settings:
    return {"schedule": "step", "milestones": ()}


def _cross_entropy(fields: Fields) -> Settings:
    return {"loss": "ce"}


def _kd(fields: Fields) -> Settings:
    of_teacher = fields.number("alpha", 0.0)
    if not 0 <= of_teacher <= 1:
        raise UsageError(f"{fields.at('alpha')} is {of_teacher:g}: the weight of the teacher's term must be in [0, 1]")
    return {"loss": "kd", "temperature": fields.number("T", 1.0), "alpha": 1 - of_teacher}


def _nst(fields: Fields) -> Settings:
    return {"loss": "nst", "beta": fields.number("beta", 12.5)}


_OPTIMIZERS: Mapping[str, Callable[[Fields], Settings]] = {"SGD": _sgd, "Adam": _adam, "AdamW": _adamw}
_SCHEDULES: Mapping[str, Callable[[Fields, int], Settings]] = {
    "CosineAnnealingLR": _cosine,
    "MultiStepLR": _multi_step,
}
_LOSSES: Mapping[str, Callable[[Fields], Settings]] = {
    "CrossEntropyLoss": _cross_entropy,
    "KDLoss": _kd,
    "NSTLoss": _nst,
}
