"""Pages of the steps on MobileNetV3 networks, and the facts they show.

Accuracies are fractions in [0, 1]; costs are of one image's forward pass.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.report import (
    Curve,
    Fragment,
    code,
    cost_scatter,
    definitions,
    note,
    page,
    plot,
    ranking_scatter,
    row,
    section,
    table,
    training_curves,
)
from common.report.facts import DatasetFacts
from common.report.sections import commands_section, dataset_definitions, facts_section, samples_section
from common.report.text import count, decimal, mean_and_std, percent
from metad2a.report_parts import SCORE


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


@dataclass(frozen=True, kw_only=True)
class RatedNetwork:
    """A network after fine-tuning.

    Attributes:
        name: `chosen` or `random 3`.
        text: the architecture.
        macs: its cost.
        score: the predictor's.
        accuracies: one a seed.
    """

    name: str
    text: str
    macs: int
    score: float
    accuracies: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class BoundFacts:
    """Networks within one bound; the chosen one first."""

    max_macs: int
    networks: Sequence[RatedNetwork]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundsFacts:
    """Searches under several bounds beside random networks."""

    dataset: DatasetFacts
    bounds: Sequence[BoundFacts]
    seeds: Sequence[int]
    pair: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


def evaluate_page(facts: BoundsFacts) -> str:
    """Accuracies predicted and measured, against MACs."""
    wins = []
    for bound in facts.bounds:
        chosen, *others = (statistics.fmean(each.accuracies) for each in bound.networks)
        wins.append(
            f"{count(bound.max_macs)} MACs {percent(chosen)} (random ones {percent(statistics.fmean(others))} on "
            f"average, {percent(max(others))} at best)"
        )
    seeds = ", ".join(map(str, facts.seeds))
    return page(
        f"Evaluation: {facts.dataset.name}",
        f"The chosen network under {'; '.join(wins)}: accuracy after fine-tuning, mean over seeds {seeds}.",
        section("Accuracy against MACs", _against_macs(facts)),
        section("Predicted and measured", note(SCORE), *_predicted(facts)),
        section("Networks", *[_network_table(bound) for bound in facts.bounds]),
        *samples_section(facts.dataset),
        section("Data", definitions(dataset_definitions(facts.dataset))),
        *facts_section("The models", facts.pair),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def _against_macs(facts: BoundsFacts) -> Fragment:
    """All networks with their Pareto front; the chosen ones are marked."""
    networks = [each for bound in facts.bounds for each in bound.networks]
    chosen = [place for place, each in enumerate(networks) if each.name == "chosen"]
    accuracies = [100 * statistics.fmean(each.accuracies) for each in networks]
    figure = cost_scatter(
        [each.macs for each in networks],
        accuracies,
        chosen=chosen[::-1],
        cost_label="MACs",
        score_label="measured accuracy in percent",
    )
    caption = (
        "After fine-tuning, mean over the seeds. Marked: what the searches chose, the star under the largest bound."
    )
    shown = ", ".join(f"{count(networks[place].macs)} MACs {accuracies[place]:.1f} %" for place in chosen)
    return plot(figure, alt=f"Accuracy of {len(networks)} networks against MACs; chosen: {shown}", caption=caption)


def _predicted(facts: BoundsFacts) -> list[Fragment]:
    """Scores against MACs, and against what was measured."""
    networks = [each for bound in facts.bounds for each in bound.networks]
    chosen = [place for place, each in enumerate(networks) if each.name == "chosen"][::-1]
    scores = [each.score for each in networks]
    accuracies = [statistics.fmean(each.accuracies) for each in networks]
    costs = cost_scatter(
        [each.macs for each in networks], scores, chosen=chosen, cost_label="MACs", score_label="predicted score"
    )
    parts = [
        plot(costs, alt=f"Score of {len(networks)} networks against MACs", caption="Predicted score against MACs."),
        plot(
            ranking_scatter(scores, accuracies, chosen=chosen),
            alt=f"Measured accuracy of {len(networks)} networks against their scores",
            caption="Measured accuracy against predicted score.",
        ),
    ]
    return [row(*parts)]


def _network_table(bound: BoundFacts) -> Fragment:
    rows: list[list[str | Fragment]] = [
        [each.name, count(each.macs), decimal(each.score, 4), mean_and_std(each.accuracies), code(each.text)]
        for each in bound.networks
    ]
    columns = ["", "MACs", "Score", "Accuracy", "Architecture"]
    return table(columns, rows, caption=f"At most {count(bound.max_macs)} MACs", words=(0, 4), marked=(0,))
