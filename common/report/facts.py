"""Facts that the pages of all methods share, and where steps get them from.

Accuracies are fractions in [0, 1].
"""

import csv
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from common.report.figures import Curve

_SAMPLED_CLASSES, _SAMPLES = 10, 6


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetFacts:
    """A dataset, with the images that stand for it."""

    name: str
    description: str = ""
    class_names: Sequence[str]
    num_train: int
    num_evaluation: int
    resolution: int
    images: Tensor | None = None
    """uint8 (N, 3, H, W) to take samples from; None shows no pictures."""
    labels: Tensor | None = None
    """int64 (N,) of these images."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """One training run: its measures, and the course of them over the epochs that were validated."""

    seed: int
    best_accuracy: float
    final_accuracy: float
    initial_accuracy: float | None = None
    seconds: float | None = None
    accuracies: Curve | None = None
    losses: Curve | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionFacts:
    """Outputs of a network on evaluation images."""

    images: Tensor
    """uint8 (N, 3, H, W)."""
    labels: Tensor
    """int64 (N,)."""
    logits: Tensor
    """(N, K)."""


class LabelledImages(Protocol):
    """What facts need of a task."""

    @property
    def id(self) -> str:
        """Stable id."""
        ...

    @property
    def description(self) -> str:
        """One line that says which part of a set it is."""
        ...

    @property
    def images(self) -> Tensor:
        """(N, 3, H, W) uint8."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,) int64."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each label."""
        ...

    @property
    def train(self) -> Tensor:
        """Indices of the training images."""
        ...

    @property
    def evaluation(self) -> Tensor:
        """Indices of the images accuracy is measured on."""
        ...

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        ...


def dataset_facts(task: LabelledImages) -> DatasetFacts:
    """A task with a few evaluation images of its first classes."""
    rows = [
        task.evaluation[task.labels[task.evaluation] == label][:_SAMPLES]
        for label in range(min(len(task.class_names), _SAMPLED_CLASSES))
    ]
    shown = torch.cat(rows)
    return DatasetFacts(
        name=task.id,
        description=task.description.removeprefix(task.id).lstrip(":, "),  # the page says the name before it
        class_names=task.class_names,
        num_train=len(task.train),
        num_evaluation=len(task.evaluation),
        resolution=task.resolution,
        images=task.images[shown],
        labels=task.labels[shown],
    )


class PlannedImages(Protocol):
    """What facts need of a task that is not decoded."""

    @property
    def id(self) -> str:
        """Stable id."""
        ...

    @property
    def description(self) -> str:
        """One line that says which part of a set it is."""
        ...

    @property
    def train(self) -> Sized:
        """The training images."""
        ...

    @property
    def evaluation(self) -> Sized:
        """The images accuracy is measured on."""
        ...


def planned_facts(
    plan: PlannedImages, class_names: Sequence[str], samples: tuple[Tensor, Tensor], resolution: int
) -> DatasetFacts:
    """A task that is not decoded but for samples: images (n, 3, H, W) uint8 and their labels (n,) int64."""
    return DatasetFacts(
        name=plan.id,
        description=plan.description.removeprefix(plan.id).lstrip(":, "),
        class_names=class_names,
        num_train=len(plan.train),
        num_evaluation=len(plan.evaluation),
        resolution=resolution,
        images=samples[0],
        labels=samples[1],
    )


def run_facts(
    seed: int,
    accuracies: Mapping[str, float],
    curve: Sequence[Mapping[str, float]],
    seconds: float | None = None,
) -> RunFacts:
    """One training.

    Args:
        seed: its seed.
        accuracies: `best`, `final` and `initial`.
        curve: its validations, each with `epoch`, `accuracy` and `loss`.
        seconds: how long it took.
    """
    epochs = [point["epoch"] for point in curve]
    return RunFacts(
        seed=seed,
        best_accuracy=accuracies["best"],
        final_accuracy=accuracies["final"],
        initial_accuracy=accuracies["initial"],
        seconds=seconds,
        accuracies=Curve(epochs, [point["accuracy"] for point in curve]) if curve else None,
        losses=Curve(epochs, [point["loss"] for point in curve]) if curve else None,
    )


def read_curves(folder: Path) -> dict[tuple[str, str], Curve]:
    """The course of each (split, name) in a run's `metrics.csv`."""
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            points.setdefault((row["split"], row["name"]), []).append((int(row["step"]), float(row["value"])))
    return {key: Curve(*zip(*values, strict=True)) for key, values in points.items()}


def settings_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as text, without those that are not set."""
    return {name.replace("_", " "): _shown(value) for name, value in settings.items() if value is not None}


def commands_of(program: str, step: str, folder: Path, next_step: str | None = None) -> dict[str, str]:
    """The command that repeats a run, and the one that goes on from it."""
    commands = {"Repeat this run": f"python -m {program} {step} --config {folder / 'config.yaml'} --restart"}
    if next_step is not None:
        commands["Go on"] = next_step
    return commands


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
