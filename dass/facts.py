"""From what the steps know to what their pages show."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from common.data.tasks import Task
from common.report import Curve
from common.spaces.resnet import ResNetArch, ResNetSpace
from dass.report_inputs import DatasetFacts, NetworkFacts, RunFacts

_SAMPLED_CLASSES, _SAMPLES = 10, 6


def dataset_facts(task: Task) -> DatasetFacts:
    """A task with a few evaluation images of its first classes."""
    rows = [
        task.evaluation[task.labels[task.evaluation] == label][:_SAMPLES]
        for label in range(min(task.num_classes, _SAMPLED_CLASSES))
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


def network_facts(
    name: str,
    space: ResNetSpace,
    arch: ResNetArch,
    task: Task,
    *,
    accuracy: float | None = None,
    score: float | None = None,
) -> NetworkFacts:
    """A network with its cost."""
    cost = space.cost(arch, task.num_classes, task.resolution)
    return NetworkFacts(
        name=name,
        architecture=space.format(arch),
        num_params=cost.num_params,
        macs=cost.macs,
        widths=arch.widths,
        accuracy=accuracy,
        score=score,
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


def commands_of(folder: Path, step: str, next_step: str | None = None) -> dict[str, str]:
    """The command that repeats a run, and the one that goes on from it."""
    commands = {"Repeat this run": f"python -m dass {step} --config {folder / 'config.yaml'} --restart"}
    if next_step is not None:
        commands["Go on"] = next_step
    return commands


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
