"""Parts that the pages of `tans.report` are composed of."""

from collections.abc import Sequence

import numpy as np

from common.report import Fragment, cost_scatter, plot, row, table, value_spread
from common.report.text import count, decimal, percent
from tans.report_inputs import SourceFacts


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
