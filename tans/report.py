"""The pages of the TANS steps: `report.html` of a zoo, a meta-training, a search, a fine-tuning, an evaluation.

Each page is a function of the facts in `tans.report_inputs` and returns the whole document.
"""

from common.report import code, definitions, note, page, section
from common.report.sections import (
    commands_section,
    curves_section,
    dataset_definitions,
    facts_section,
    predictions_section,
    samples_section,
)
from common.report.text import count, duration, percent
from tans.report_inputs import BuildFacts, EvaluateFacts, FinetuneFacts, MetaTrainFacts, SearchFacts
from tans.report_parts import (
    PREDICTED,
    course_figures,
    evaluation_figure,
    evaluation_table,
    map_figure,
    measure_table,
    retrieved_table,
    source_figures,
    source_table,
    trained_table,
)


def build_page(facts: BuildFacts) -> str:
    """What a zoo holds."""
    num = sum(len(source.num_params) for source in facts.sources)
    mean = sum(float(source.accuracies.mean()) for source in facts.sources) / len(facts.sources)
    lead = (
        f"{num:,} networks cut out of {len(facts.sources)} supernets, each measured on held-out images of its own "
        f"dataset: {percent(mean)} on average over the datasets."
    )
    return page(
        "Model zoo",
        lead,
        section("Accuracies", source_figures(facts.sources), source_table(facts.sources)),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def meta_train_page(facts: MetaTrainFacts) -> str:
    """How the space learned, and how well datasets find their networks in it."""
    lead = (
        f"Images that were not trained on find a network of their own dataset at once in "
        f"{percent(facts.kept['recall_1'])} of the cases; chance is {percent(facts.chance['recall_1'])}."
    )
    return page(
        "Cross-modal space",
        lead,
        section("Measures", measure_table(facts.kept, facts.chance)),
        section("Map", map_figure(facts.map)),
        section("Course", course_figures(facts)),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def search_page(facts: SearchFacts) -> str:
    """What was found for a dataset.

    Raises:
        ValueError: nothing was found or chosen.
    """
    if not facts.retrieved or not facts.chosen:
        raise ValueError("search page: no network is retrieved or none is chosen")
    best = facts.retrieved[facts.chosen[0]]
    lead = (
        f"Of {facts.num_networks:,} trained networks, network {best.id} is chosen: it was trained on {best.dataset} "
        f"and has {count(best.num_params)} parameters and {count(best.macs)} MACs with a classifier for this dataset. "
        "Nothing was trained to find it."
    )
    asked = {
        **dataset_definitions(facts.dataset),
        **facts.bounds,
        "Networks within the bounds": f"{facts.num_feasible:,}",
        **{f"Time: {name}": duration(value) for name, value in facts.seconds.items()},
    }
    return page(
        f"Search: {facts.dataset.name}",
        lead,
        section("Retrieved networks", note(PREDICTED), retrieved_table(facts.retrieved, facts.chosen)),
        section("Map", map_figure(facts.map)),
        section("What was asked", definitions(asked)),
        *samples_section(facts.dataset),
        *facts_section("The encoders", facts.space),
        *commands_section(facts.commands),
    )


def evaluate_page(facts: EvaluateFacts) -> str:
    """Retrieved networks beside other ways to begin."""
    ours, *others = facts.ways
    last = facts.budgets[-1]
    means = {
        way: sum(sum(ways[way][last]) / len(ways[way][last]) for ways in facts.accuracies.values())
        / len(facts.accuracies)
        for way in facts.ways
    }
    best = max(others, key=lambda way: means[way])
    lead = (
        f"After {last} epochs the {ours} network reaches {percent(means[ours])} on average over "
        f"{len(facts.accuracies)} datasets; the best other way to begin, {best}, reaches {percent(means[best])}."
    )
    return page(
        "Evaluation",
        lead,
        section("Accuracy", evaluation_figure(facts), evaluation_table(facts)),
        section("Ways to begin", definitions(dict(facts.ways))),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def finetune_page(facts: FinetuneFacts) -> str:
    """What came of the retrieved network, beside its architecture from scratch."""
    first = facts.trained[0]
    mean = sum(run.final_accuracy for run in first.runs) / len(first.runs)
    lead = (
        f"The retrieved network, which was trained on {facts.network.dataset} before, reaches {percent(mean)} with "
        f"{count(facts.network.num_params)} parameters and {count(facts.network.macs)} MACs."
    )
    return page(
        f"Fine-tuning: {facts.dataset.name}",
        lead,
        section("Accuracy", trained_table(facts.trained)),
        *curves_section({way.name: way.runs for way in facts.trained}),
        section("The network", definitions({"Architecture": code(facts.network.text)})),
        *predictions_section(facts.predictions, facts.dataset.class_names, "What the network says"),
        section("Settings", definitions({**dataset_definitions(facts.dataset), **facts.settings})),
        *commands_section(facts.commands),
    )
