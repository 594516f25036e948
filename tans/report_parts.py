"""Parts that the pages of `tans.report` are composed of."""

from collections.abc import Mapping, Sequence

import numpy as np

from common.report import (
    Curve,
    Fragment,
    code,
    cost_scatter,
    grouped_bars,
    plot,
    row,
    table,
    training_curves,
    value_spread,
)
from common.report.text import count, decimal, mean_and_std, percent
from tans.report_figures import plane
from tans.report_inputs import EvaluateFacts, MetaTrainFacts, RetrievedFacts, SourceFacts, SpaceMap, TrainedFacts


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


PREDICTED = (
    "The predicted accuracy comes from the regression that was trained beside the encoders on the zoo's own datasets. "
    "On a new dataset, with other classes, it orders networks; it is no promise."
)


def retrieved_table(retrieved: Sequence[RetrievedFacts], chosen: Sequence[int]) -> Fragment:
    """Networks that were found, nearest first."""
    rows: list[list[str | Fragment]] = [
        [
            f"{one.id}",
            one.dataset,
            decimal(one.cosine),
            percent(one.predicted),
            percent(one.accuracy),
            count(one.num_params),
            count(one.macs),
            code(one.text),
        ]
        for one in retrieved
    ]
    columns = [
        *("Network", "Trained on", "Cosine", "Predicted", "On its own dataset", "Parameters", "MACs", "Architecture"),
    ]
    return table(columns, rows, caption="Retrieved networks, nearest first", words=(0, 1, 7), marked=chosen[:1])


def evaluation_table(facts: EvaluateFacts) -> Fragment:
    """Accuracies of each way to begin on each dataset."""
    rows = [
        [data, way, *(mean_and_std(ways[way][budget]) for budget in facts.budgets)]
        for data, ways in facts.accuracies.items()
        for way in facts.ways
    ]
    columns = ["Dataset", "Begin with", *(f"{budget} epochs" for budget in facts.budgets)]
    first = next(iter(facts.ways))
    marked = [place for place, cells in enumerate(rows) if cells[1] == first]
    caption = "Accuracy on evaluation images, mean and standard deviation over the seeds"
    return table(columns, rows, caption=caption, words=(0, 1), marked=marked)


def evaluation_figure(facts: EvaluateFacts) -> Fragment:
    """Means over the datasets, one group a budget."""
    names = [f"{budget} epochs" for budget in facts.budgets]
    series = {
        way: [
            100 * float(np.mean([np.mean(ways[way][budget]) for ways in facts.accuracies.values()]))
            for budget in facts.budgets
        ]
        for way in facts.ways
    }
    figure = grouped_bars(names, series, value_label="mean accuracy over the datasets, percent")
    ends = "; ".join(f"{way} {values[-1]:.1f}" for way, values in series.items())
    return plot(figure, alt=f"Mean accuracies, after the longest budget {ends}", caption="Mean over the datasets.")


def trained_table(trained: Sequence[TrainedFacts]) -> Fragment:
    """Ways to begin, with what came of each."""
    rows = []
    for way in trained:
        curves = [run.accuracies for run in way.runs if run.accuracies is not None]
        early = [mean_and_std([_at(curve, epoch) for curve in curves if epoch in curve.steps]) for epoch in (1, 10)]
        final = mean_and_std([run.final_accuracy for run in way.runs])
        rows.append([way.name, way.note, *early, final, f"{len(way.runs)}"])
    columns = ["Network", "Begins with", "After 1 epoch", "After 10", "At the end", "Seeds"]
    return table(columns, rows, caption="Accuracy on evaluation images", words=(0, 1), marked=(0,))


def _at(curve: Curve, epoch: int) -> float:
    return curve.values[list(curve.steps).index(epoch)]
