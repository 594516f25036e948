"""Pages of the steps on MobileNetV3 networks, and the facts they show.

Accuracies are fractions in [0, 1]; costs are of one image's forward pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.report import Curve, definitions, page, plot, section, training_curves
from common.report.facts import DatasetFacts
from common.report.sections import commands_section, dataset_definitions, facts_section, samples_section
from common.report.text import percent


@dataclass(frozen=True, kw_only=True, eq=False)
class SupernetFacts:
    """The training of a supernet."""

    dataset: DatasetFacts
    space: str
    curves: Mapping[str, Curve]
    """Network -> its accuracy over the epochs."""
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


def supernet_page(facts: SupernetFacts) -> str:
    """How the largest and the smallest network of a supernet came to their accuracies."""
    ends = ", ".join(f"{name} {percent(curve.values[-1])}" for name, curve in facts.curves.items())
    figure = training_curves(
        {name: [curve] for name, curve in facts.curves.items()}, value_label="accuracy", is_fraction=True
    )
    caption = "Accuracy on the evaluation images, with batch statistics of each network's own."
    return page(
        f"Supernet: {facts.dataset.name}",
        f"One set of weights for every network of {facts.space}. After training: {ends}.",
        section("Course", plot(figure, alt=f"Accuracy over the epochs; at the end: {ends}", caption=caption)),
        *samples_section(facts.dataset),
        section("Data", definitions(dataset_definitions(facts.dataset))),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )
