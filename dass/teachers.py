"""Train a teacher of the residual family on a task, or find the one that was trained before."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from common.data.tasks import Task
from common.experiment.config import UsageError, digest, to_dict
from common.experiment.names import slug
from common.kd.recipe import Recipe
from common.kd.teacher import is_named_teacher, load_teacher
from common.kd.trainer import Log, train
from common.spaces.resnet import ResNetSpace
from dass.networks import TrainedNetwork, load_network, save_network

TEACHER_RECIPE = Recipe(loss="ce", epochs=180, learning_rate=0.01, label_smoothing=0.1)
"""DaSS's recipe for the teacher of an unseen dataset."""
TINY_IMAGENET_TEACHER_RECIPE = replace(TEACHER_RECIPE, learning_rate=0.05)
"""The released code's default rate; which one its Tiny ImageNet teachers took is not published."""

_ANOTHER_TEACHER = "train one for this data with `python -m dass train-teacher --out FOLDER` and give --teacher.file"


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Which teacher to learn from."""

    file: str | None = None
    """A teacher's file, `timm:NAME@FILE` where the weights are not remapped, or none for the one that train-teacher
    keeps for the dataset, which is trained first when it is not there."""
    recipe: Recipe = TEACHER_RECIPE
    """How a missing teacher is trained."""


def teacher_folder(task: str) -> Path:
    """Run folder that train-teacher uses for a task when no other is asked for."""
    return Path("exp/dass/train-teacher") / slug(task)


def fit_teacher(
    task: Task,
    space: ResNetSpace,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    file: Path,
    checkpoint: Path | None = None,
    log: Log | None = None,
) -> tuple[TrainedNetwork, list[dict[str, float]]]:
    """Train the space's full network and write it to a file.

    Returns:
        The teacher with the weights of its best validation (as published), and the course of the validations.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = space.build(space.teacher, task.num_classes, task.resolution)
    description = f"teacher of {task.id}"
    outcome = train(
        [network], task, recipe, device=device, seed=seed, checkpoint=checkpoint, log=log, description=description
    )[0]
    network.load_state_dict(outcome.best_state)
    teacher = TrainedNetwork(
        network=network.cpu(),
        role="teacher",
        space=space,
        arch=space.teacher,
        task=task.id,
        description=task.description,
        class_names=task.class_names,
        resolution=task.resolution,
        best_accuracy=outcome.best_accuracy,
        final_accuracy=outcome.final_accuracy,
        initial_accuracy=outcome.initial_accuracy,
        notes={"recipe": to_dict(recipe), "recipe_digest": digest(recipe), "seed": seed, "weights": "best"},
    )
    save_network(file, teacher)
    return teacher, outcome.curve


def load_family_teacher(file: str | Path, task: Task) -> TrainedNetwork:
    """A teacher whose weights students can take over.

    Raises:
        UsageError: it is a timm network, or was trained on other classes or another image size than the task's.
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged or holds no teacher.
    """
    if is_named_teacher(str(file)):
        raise UsageError(
            f"teacher {file}: DaSS takes the student's first weights from the teacher, so the teacher must be of the "
            "residual family: make one with `python -m dass train-teacher`; to distil from a timm network give "
            "`dass distill` an --arch and --pr-type random_init"
        )
    teacher = load_network(Path(file))
    check_fits(teacher.num_classes, teacher.resolution, task, file)
    unnamed = teacher.notes.get("origin") == "official" and teacher.task == task.id
    if teacher.class_names != task.class_names and not unnamed:
        raise UsageError(
            f"teacher {file} knows other classes ({_some(teacher.class_names)} of {teacher.task}) than {task.id} has "
            f"({_some(task.class_names)}): {_ANOTHER_TEACHER}"
        )
    return teacher


def check_fits(num_classes: int, resolution: int, task: Task, file: str | Path) -> None:
    """Refuse a teacher of other classes or another image size."""
    if num_classes != task.num_classes:
        raise UsageError(
            f"teacher {file} has {num_classes} classes, {task.id} has {task.num_classes}: {_ANOTHER_TEACHER}"
        )
    if resolution != task.resolution:
        raise UsageError(
            f"teacher {file} was trained on {resolution} px images: give --resolution {resolution} instead of "
            f"{task.resolution}"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def any_teacher(file: str, task: Task, device: torch.device) -> nn.Module:
    """A teacher that only gives logits: of the residual family, or `timm:NAME@FILE`.

    Raises:
        UsageError: a timm network without weights, or a teacher that does not fit the task.
    """
    if not is_named_teacher(file):
        return load_family_teacher(file, task).network.to(device)
    if "@" not in file:
        raise UsageError(f"teacher {file} has no weights: train it with `python -m dass train-teacher --model {file}`")
    return load_teacher(file, num_classes=task.num_classes, resolution=task.resolution, device=device)
