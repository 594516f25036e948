"""Parts that the pages of `tans.report` are composed of."""

from collections.abc import Mapping, Sequence

import numpy as np

from common.report import Fragment, cost_scatter, plot, row, table, training_curves, value_spread
from common.report.text import count, decimal, percent
from tans.report_figures import plane
from tans.report_inputs import MetaTrainFacts, SourceFacts, SpaceMap


def source_figures(sources: Sequence[SourceFacts]) -> Fragment:
    """Spread of accuracies in each source, and accuracies against size over all."""
    marks = {source.name: source.supernet_accuracy for source in sources if source.supernet_accuracy is not None}
    spread = value_spread(
        {source.name: source.accuracies.numpy() for source in sources},
        marks=marks,
        mark_label="largest network of the supernet",
        value_label="accuracy on held-out images",
    )
    costs = np.concatenate([np.asarray(source.num_params) for source in sources])
    accuracies = np.concatenate([source.accuracies.numpy() for source in sources])
    cloud = cost_scatter(
        costs, accuracies, chosen=[], cost_label="parameters without classifier", score_label="accuracy"
    )
    return row(
        plot(
            spread,
            alt=f"Accuracies of the networks of {len(sources)} datasets",
            caption="Accuracies of each dataset's networks; datasets are not equally hard.",
        ),
        plot(
            cloud,
            alt=f"Accuracy against parameters of {len(costs)} networks",
            caption="All networks: accuracy on their own dataset against their size.",
        ),
    )


def source_table(sources: Sequence[SourceFacts]) -> Fragment:
    """Sources with their networks."""
    rows = []
    for source in sources:
        accuracies = source.accuracies
        values = [float(accuracies.min()), float(accuracies.mean()), float(accuracies.max())]
        rows.append(
            [
                source.name,
                f"{source.num_classes}",
                f"{len(source.num_params):,}",
                *map(percent, values),
                percent(source.supernet_accuracy),
                f"{count(min(source.num_params))} to {count(max(source.num_params))}",
                decimal(source.hypervolume),
            ]
        )
    columns = [
        *("Dataset", "Classes", "Networks", "Worst", "Mean", "Best", "Largest of the supernet"),
        *("Parameters", "Hypervolume"),
    ]
    return table(columns, rows, caption="Datasets of the zoo and the accuracies of their networks")


def course_figures(facts: MetaTrainFacts) -> Fragment:
    """Losses and measures over the steps."""
    losses = {name: [curve] for name, curve in facts.losses.items()}
    names = [f"recall_{k}" for k in (1, 5, 10) if f"recall_{k}" in facts.validation]
    recalls = {f"R@{name.removeprefix('recall_')}": [facts.validation[name]] for name in names}
    parts = []
    for title, curves in losses.items():
        figure = training_curves({title: curves}, value_label=f"{title} loss", step_label="step", is_log=True)
        ends = decimal(curves[0].values[-1], 4)
        parts.append(plot(figure, alt=f"{title} loss, at the end {ends}", caption=f"Training: {title} loss of a step."))
    figure = training_curves(recalls, value_label="share found", step_label="step", is_fraction=True)
    ends = ", ".join(f"{name} {percent(curves[0].values[-1])}" for name, curves in recalls.items())
    caption = "Unseen images of the sources: share that finds a network of its own source among the first k."
    return row(*parts, plot(figure, alt=f"Recall over the steps; at the end {ends}", caption=caption))


def measure_table(kept: Mapping[str, float], by_chance: Mapping[str, float]) -> Fragment:
    """Measures of the kept state beside those of random vectors."""
    rows: list[list[str]] = []
    for name, value in by_chance.items():
        show = percent if name.startswith("recall") else decimal
        rows.append([_MEASURES.get(name, name.replace("recall_", "R@")), show(kept[name]), show(value)])
    for name in ("pearson", "spearman", "squared_error", "cosine_own", "cosine_other", "topology_share"):
        if name in kept:
            rows.append([_MEASURES[name], decimal(kept[name]), ""])
    return table(["Measure", "Encoders", "Chance"], rows, caption="On unseen images of the sources, fresh draws")


_MEASURES = {
    "median_rank": "Median rank",
    "mean_rank": "Mean rank",
    "pearson": "Pearson correlation of predicted and measured accuracies",
    "spearman": "Spearman correlation of them",
    "squared_error": "Squared error of predicted accuracies",
    "cosine_own": "Mean cosine of a dataset and its own networks",
    "cosine_other": "Mean cosine of a dataset and others' networks",
    "topology_share": "Share of the topology in the norm of a description",
}


def map_figure(facts: SpaceMap) -> Fragment:
    """The plane with networks, datasets and what was found."""
    figure = plane(facts)
    found = "" if facts.new_query is None else " The star is the searched dataset, rings are the retrieved networks."
    return plot(
        figure,
        alt=f"{len(facts.networks)} networks of {len(facts.names)} datasets in the plane",
        caption=(
            f"Networks (dots) and the datasets they were trained on (squares), in the plane that holds "
            f"{percent(facts.share, 0)} of the variance.{found}"
        ),
    )
