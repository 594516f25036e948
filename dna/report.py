"""The pages of the DNA steps: `report.html` of a teacher, a supernet, a rating, a search, a training, an evaluation.

Each page is a function of the facts in `dna.report_inputs` and returns the whole document.
"""

from collections.abc import Sequence

import numpy as np

from common.report import (
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
from common.report.sections import (
    commands_section,
    curves_section,
    dataset_definitions,
    describe_seeds,
    facts_section,
    samples_section,
)
from common.report.text import count, decimal, mean_and_std, percent
from dna.archs import OPS, format_arch, path_ops
from dna.drawing import network_drawing, rating_spread
from dna.potentials import RATING, Potential
from dna.report_inputs import (
    EvaluateFacts,
    FoundFacts,
    MetaTrainFacts,
    RateFacts,
    RetrainFacts,
    SearchFacts,
    TeacherFacts,
    TrainedFacts,
)

LOSS = (
    "The rating of a network is the sum over its blocks of the relative L1 distance to the teacher's features: smaller "
    "is better. It is no accuracy; only the order counts."
)


def teacher_page(facts: TeacherFacts) -> str:
    """A teacher's accuracy and the course of its training."""
    lead = (
        f"{facts.model} with {count(facts.num_params)} parameters reaches {percent(facts.run.best_accuracy, 2)} on the "
        "evaluation images; these weights guide the supernet."
    )
    return page(
        f"Teacher: {facts.dataset.name}",
        lead,
        *curves_section({"teacher": [facts.run]}),
        *samples_section(facts.dataset),
        section("Settings", definitions({**dataset_definitions(facts.dataset), **facts.settings})),
        *commands_section(facts.commands),
    )


def meta_train_page(facts: MetaTrainFacts) -> str:
    """The course of every block."""
    figures = []
    for title, named in (("training images", facts.training), ("random paths on held-out images", facts.validation)):
        figure = training_curves(
            {name: [curve] for name, curve in named.items()},
            value_label="mean squared error",
            step_label="step",
            is_log=True,
        )
        ends = ", ".join(f"{name} {decimal(curve.values[-1], 4)}" for name, curve in named.items())
        figures.append(plot(figure, alt=f"{title}; at the end {ends}", caption=f"Distance to the teacher, {title}."))
    lead = f"{len(facts.training)} blocks with {count(facts.num_params)} parameters learned from {facts.teacher}."
    return page(
        f"Supernet: {facts.dataset}",
        lead,
        section("Course", row(*figures)),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def rate_page(facts: RateFacts) -> str:
    """What the paths of every block are rated."""
    total = sum(len(potential.metrics[RATING]) for stage in facts.potentials for potential in stage)
    ratings = {
        _block_name(stage, cell): potential.rating()
        for stage, of_stage in enumerate(facts.potentials)
        for cell, potential in enumerate(of_stage)
    }
    figure = plot(
        rating_spread(ratings, {}),
        alt="; ".join(f"{name}: {values.min():.3f} to {values.max():.3f}" for name, values in ratings.items()),
        caption="Relative L1 of all paths of each block, on held-out images. Smaller is nearer to the teacher.",
    )
    rows: list[list[str]] = [
        [_block_name(stage, cell), *_best_and_worst(potential)]
        for stage, of_stage in enumerate(facts.potentials)
        for cell, potential in enumerate(of_stage)
    ]
    columns = ["Block", "Best path", "Rating", "Worst path", "Rating"]
    return page(
        f"Ratings: {facts.dataset}",
        f"All {total:,} paths of the blocks, rated on {facts.num_images:,} images.",
        section("Ratings", note(LOSS), figure, table(columns, rows, caption="Ends of the ratings", words=(0, 1, 3))),
        *commands_section(facts.commands),
    )


def search_page(facts: SearchFacts) -> str:
    """The network that was found, how it stands to others, and the ratings it was found by."""
    best = facts.networks[0]
    asked = ", ".join(f"{name.replace('_', ' ')} at most {bound:,}" for name, bound in facts.bounds.items())
    lead = (
        f"With {asked or 'no bound'}, this network has the smallest sum of ratings of all: {decimal(best.rating, 4)}, "
        f"with {count(best.macs)} MACs and {count(best.num_params)} parameters. Found in {facts.seconds:.3f} s."
    )
    return page(
        f"Search: {facts.data}",
        lead,
        network_section("The network", best),
        section("Rating and cost", note(LOSS), _front_figure(facts)),
        section("Ratings of the blocks", _stage_figure(facts)),
        section(f"The best {len(facts.networks)}", _network_table(facts.networks)),
        *commands_section(facts.commands),
    )


def retrain_page(facts: RetrainFacts) -> str:
    """Accuracy of the network that was trained."""
    runs = facts.chosen.runs
    accuracy = mean_and_std([run.final_accuracy for run in runs])
    network = facts.chosen.network
    lead = (
        f"The network reaches {accuracy} after the last epoch ({describe_seeds(runs)}), with "
        f"{count(network.num_params)} parameters and {count(network.macs)} MACs."
    )
    return page(
        f"Training: {facts.dataset.name}",
        lead,
        *curves_section({"network": runs}),
        network_section("The network", network),
        *samples_section(facts.dataset),
        section("Settings", definitions({**dataset_definitions(facts.dataset), **facts.settings})),
        *commands_section(facts.commands),
    )


def evaluate_page(facts: EvaluateFacts) -> str:
    """The found network beside others, and how well ratings order what was trained."""
    everything = [facts.found, *facts.equal, *facts.spread]
    better = sum(other.accuracy > facts.found.accuracy for other in facts.equal)
    lead = (
        f"The found network reaches {mean_and_std([run.final_accuracy for run in facts.found.runs])}; of "
        f"{len(facts.equal)} random networks of the same cost, trained the same way, {better} are better."
    )
    figure = ranking_scatter(
        [-trained.network.rating for trained in everything],
        [trained.accuracy for trained in everything],
        chosen=[0],
    )
    drawn = plot(
        figure,
        alt="; ".join(f"{ranking.name}: Kendall {ranking.kendall:.2f}" for ranking in facts.rankings),
        caption="Rating with its sign turned (larger is better) against the accuracy after training.",
    )
    rows = [[ranking.name, decimal(ranking.kendall, 2), decimal(ranking.spearman, 2)] for ranking in facts.rankings]
    return page(
        f"Evaluation: {facts.dataset}",
        lead,
        section("Accuracy", trained_table(everything)),
        section(
            "Ranking",
            drawn,
            table(["Ordered by", "Kendall", "Spearman"], rows, caption="Rank correlation with the trained accuracy"),
        ),
        network_section("The found network", facts.found.network),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def network_section(title: str, network: FoundFacts) -> Fragment:
    """The drawing of a network with its figures."""
    text = format_arch(network.arch)
    drawing = plot(
        network_drawing(network.arch), alt=f"Layers of {text}", caption="From the input (top) to the output."
    )
    facts: dict[str, str | Fragment] = {
        "Architecture": code(text),
        "Parameters": f"{network.num_params:,}",
        "MACs of one image": f"{network.macs:,}",
        "The same, as the authors count": f"{network.official_macs:,}",
    }
    if network.ratings:
        facts["Rating"] = decimal(network.rating, 4)
        facts |= {f"Rating of stage {stage}": decimal(value, 4) for stage, value in enumerate(network.ratings)}
    return section(title, row(drawing, definitions(facts)))


def trained_table(networks: Sequence[TrainedFacts]) -> Fragment:
    """Trained networks, best first, the found one set off."""
    ordered = sorted(networks, key=lambda trained: -trained.accuracy)
    rows: list[list[str | Fragment]] = [
        [
            trained.name,
            code(format_arch(trained.network.arch)),
            mean_and_std([run.final_accuracy for run in trained.runs]),
            decimal(trained.network.rating, 4),
            f"{trained.network.macs:,}",
            f"{trained.network.num_params:,}",
        ]
        for trained in ordered
    ]
    columns = ["Network", "Architecture", "Accuracy", "Rating", "MACs", "Parameters"]
    return table(
        columns,
        rows,
        caption="Trained networks by mean accuracy after the last epoch",
        words=(0, 1),
        marked=[ordered.index(networks[0])],
    )


def _front_figure(facts: SearchFacts) -> Fragment:
    points = [(best.macs, best.rating) for best in facts.networks] + [*facts.front, *facts.random]
    macs, ratings = (np.array(values, float) for values in zip(*points, strict=True))
    figure = cost_scatter(
        macs,
        -ratings,
        chosen=range(len(facts.networks)),
        cost_label="MACs",
        score_label="rating, sign turned",
        bound=facts.bounds.get("macs"),
    )
    caption = (
        f"{len(facts.random):,} random networks and the exact front: for every cost the best sum of ratings that any "
        "network of the space has."
    )
    return plot(figure, alt=f"{len(facts.front)} networks on the front", caption=caption)


def _stage_figure(facts: SearchFacts) -> Fragment:
    ratings = {
        _block_name(stage, cell): values
        for stage, of_stage in enumerate(facts.ratings)
        for cell, values in enumerate(of_stage)
    }
    best = facts.networks[0]
    chosen = {}
    for stage, of_stage in enumerate(facts.ratings):
        for cell, values in enumerate(of_stage):
            if (values == best.ratings[stage]).any():
                chosen[_block_name(stage, cell)] = best.ratings[stage]
    return plot(
        rating_spread(ratings, chosen),
        alt="; ".join(f"{name}: {values.min():.3f} to {values.max():.3f}" for name, values in ratings.items()),
        caption="Ratings of all paths of each block, and that of the path in the network.",
    )


def _network_table(networks: Sequence[FoundFacts]) -> Fragment:
    rows: list[list[str | Fragment]] = [
        [str(place), code(format_arch(n.arch)), decimal(n.rating, 4), f"{n.macs:,}", f"{n.num_params:,}"]
        for place, n in enumerate(networks, start=1)
    ]
    columns = ["Place", "Architecture", "Rating", "MACs", "Parameters"]
    return table(columns, rows, caption="Networks by the sum of their ratings", words=(1,), marked=(0,))


def _block_name(stage: int, cell: int) -> str:
    return f"stage {stage}" if cell == 0 else f"stage {stage}, cell {cell}"


def _best_and_worst(potential: Potential) -> list[str]:
    values = potential.rating()
    return [
        part
        for path in (int(values.argmin()), int(values.argmax()))
        for part in (", ".join(OPS[op] for op in path_ops(path, potential.num_layers)), decimal(float(values[path]), 4))
    ]
