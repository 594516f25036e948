"""Sections that the pages of all methods are composed of; one without its facts is left out."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from common.report.facts import DatasetFacts, PredictionFacts, RunFacts
from common.report.figures import Curve, training_curves
from common.report.images import contact_sheet, gallery
from common.report.page import Fragment, command, definitions, paragraph, plot, row, section
from common.report.text import decimal, percent

NUM_PREDICTIONS = 8
"""Pictures shown of those the network gets right, and as many of the others."""


def dataset_definitions(dataset: DatasetFacts) -> dict[str, str | Fragment]:
    """Name, images and classes of a dataset."""
    images = f"{dataset.num_train:,} for training, {dataset.num_evaluation:,} for evaluation"
    return {
        "Dataset": f"{dataset.name}: {dataset.description}" if dataset.description else dataset.name,
        "Images": f"{images}, {dataset.resolution} x {dataset.resolution} pixels",
        "Classes": f"{len(dataset.class_names):,}",
    }


def samples_section(dataset: DatasetFacts) -> list[Fragment]:
    """Pictures of each class, if the dataset brings any."""
    if dataset.images is None or dataset.labels is None:
        return []
    sheet = contact_sheet(dataset.images, dataset.labels, dataset.class_names)
    return [section("Sample images", sheet)]


def curves_section(named: Mapping[str, Sequence[RunFacts]]) -> list[Fragment]:
    """Accuracy and loss over the epochs, of those runs that brought curves."""
    accuracies = {name: [run.accuracies for run in runs if run.accuracies] for name, runs in named.items()}
    losses = {name: [run.losses for run in runs if run.losses] for name, runs in named.items()}
    parts = [
        *_curve_plot("Accuracy", accuracies, percent, is_fraction=True),
        *_curve_plot("Loss", losses, decimal, is_fraction=False),
    ]
    return [section("Training curves", row(*parts))] if parts else []


def _curve_plot(
    quantity: str, named: Mapping[str, Sequence[Curve]], show: Callable[[float], str], *, is_fraction: bool
) -> list[Fragment]:
    runs = {name: curves for name, curves in named.items() if curves}
    if not runs:
        return []
    figure = training_curves(runs, value_label=f"{quantity.lower()} on the evaluation images", is_fraction=is_fraction)
    ends = [f"{name} {show(mean_defined([curve.values[-1] for curve in curves]))}" for name, curves in runs.items()]
    caption = f"{quantity} after each evaluated epoch."
    if any(len(curves) > 1 for curves in runs.values()):
        caption += " The line is the mean over the seeds, the band reaches from the lowest to the highest."
    return [plot(figure, alt=f"{quantity} over the epochs; at the end {', '.join(ends)}", caption=caption)]


def predictions_section(
    facts: PredictionFacts | None, class_names: Sequence[str], heading: str = "What the student says"
) -> list[Fragment]:
    """Pictures that the network gets right and pictures that it does not."""
    if facts is None or len(facts.labels) == 0:
        return []
    confidence, answer = facts.logits.float().softmax(dim=1).max(dim=1)
    is_right = answer == facts.labels
    parts = []
    for title, is_shown in (("Right", is_right), ("Wrong", ~is_right)):
        members = torch.nonzero(is_shown).flatten()
        picked = members[torch.linspace(0, max(0, len(members) - 1), min(len(members), NUM_PREDICTIONS)).round().long()]
        captions = []
        for index in picked.tolist():
            said = f"{class_names[int(answer[index])]}, {percent(float(confidence[index]), 0)}"
            captions.append(said if is_right[index] else f"{said}; it is {class_names[int(facts.labels[index])]}")
        parts.append(paragraph(f"{title}: {len(members):,} of {len(answer):,} images; the answer and its probability."))
        parts.append(gallery(facts.images[picked], captions))
    return [section(heading, *parts)]


def facts_section(title: str, facts: Mapping[str, str]) -> list[Fragment]:
    """Facts under a heading, if there are any."""
    return [section(title, definitions(facts))] if facts else []


def commands_section(commands: Mapping[str, str]) -> list[Fragment]:
    """The commands that repeat what the page shows, if given."""
    parts = [part for purpose, text in commands.items() for part in (paragraph(purpose), command(text))]
    return [section("Repeat it", *parts)] if parts else []


def mean_defined(values: Sequence[float]) -> float:
    """Mean of the defined values; NaN when there are none."""
    defined = [value for value in values if not np.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def plural(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def describe_seeds(runs: Sequence[RunFacts]) -> str:
    """The seeds behind a number."""
    if len(runs) == 1:
        return f"seed {runs[0].seed}"
    return f"mean and standard deviation over seeds {', '.join(str(run.seed) for run in runs)}"
