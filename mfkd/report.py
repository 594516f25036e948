"""The pages of the MFKD steps: `report.html` of a search, a pipeline, a distillation, and of the comparisons.

Each page is a function of the facts in `mfkd.report_inputs` and returns the whole document.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from common.report import Fragment, definitions, grouped_bars, note, page, paragraph, plot, section
from common.report.facts import dataset_facts, settings_of
from common.report.sections import (
    commands_section,
    curves_section,
    dataset_definitions,
    predictions_section,
    samples_section,
)
from common.report.text import count, mean_and_std, percent
from mfkd.plans import plain_settings
from mfkd.report_inputs import DistillFacts, Result, SearchFacts
from mfkd.report_parts import model_table, network_section, step_section, training_runs

_VALIDATED = "Accuracies of a search are on held-out training images; test images played no part in it."
_TESTED = "A search went by test images, as compat_val says: accuracies on them are no estimate for other images."


def search_page(facts: SearchFacts) -> str:
    """What was chosen, how the search went there, and how well its surrogate fits."""
    winner = facts.winner
    num = sum(result["num_evaluations"] for result in facts.steps)
    known = (
        f"it is predicted {percent(winner['prediction']['mean'])} at low fidelity and was not trained"
        if winner["accuracy"] is None
        else f"it reaches {percent(winner['accuracy'])} on the validation images"
    )
    lead = (
        f"After {num} trainings, this one of {facts.space.size():,} networks is chosen: {count(winner['num_params'])} "
        f"parameters and {count(winner['macs'])} MACs; {known}."
    )
    dataset = replace(dataset_facts(facts.task), name=facts.name)
    ways = {
        name: f"{percent(one.portion)} of the images; {plain_settings(one.recipe)}"
        for name, one in facts.recipes.items()
    }
    return page(
        f"Search: {dataset.name}",
        lead,
        note(_VALIDATED),
        network_section("The network", winner, facts.space),
        *[step_section(result) for result in facts.steps],
        section("What was asked", definitions({**dataset_definitions(dataset), **ways, "Seed": str(facts.seed)})),
        *samples_section(dataset),
        *commands_section(facts.commands),
    )


def pipeline_page(file: str, results: Sequence[Result], commands: Mapping[str, str]) -> str:
    """All steps of a pipeline file."""
    trained = [
        {**model, "label": f"{result['step']}, {model['name']}"}
        for result in results
        if result["kind"] == "train"
        for model in result["models"]
    ]
    searches = [result for result in results if result["kind"] == "search"]
    ends = [f"{one['label']} {percent(one['accuracy'])}" for one in trained]
    ends += [] if trained else [f"winner {searches[-1]['winner']['architecture']}"]
    lead = f"{len(results)} steps: {', '.join(result['step'] for result in results)}. At the end: {', '.join(ends)}."
    on_test = any(result["task"].endswith(", test") for result in searches)
    final = [section("Trained networks", model_table(trained, f"On {trained[0]['description']}"))] if trained else []
    return page(
        f"Pipeline {file}",
        lead,
        *([note(_TESTED if on_test else _VALIDATED)] if searches else []),
        *[step_section(result) for result in searches],
        *final,
        *curves_section({one["label"]: training_runs([one]) for one in trained}),
        *commands_section(commands),
    )


def distill_page(facts: DistillFacts) -> str:
    """Accuracy of the chosen network over seeds, and of random ones beside it."""
    accuracies = [one["accuracy"] for one in facts.chosen]
    first = facts.chosen[0]
    lead = (
        f"The chosen network reaches {mean_and_std(accuracies)} on the test images after the last epoch, with "
        f"{count(first['num_params'])} parameters and {count(first['macs'])} MACs."
    )
    dataset = dataset_facts(facts.task)
    labelled = [{**one, "label": f"seed {one['seed']}"} for one in facts.chosen]
    return page(
        f"Distillation: {dataset.name}",
        lead,
        section("Accuracy", model_table(labelled, "The last epoch counts, as nothing was picked for it")),
        *_random_section(facts),
        *curves_section({"chosen network": training_runs(facts.chosen)}),
        network_section("The network", first, facts.space),
        *predictions_section(facts.predictions, dataset.class_names, "What the network says"),
        section("Settings", definitions({**dataset_definitions(dataset), **settings_of(facts.settings)})),
        *commands_section(facts.commands),
    )


def _random_section(facts: DistillFacts) -> list[Fragment]:
    if not facts.random:
        return []
    pool = [one["accuracy"] for one in facts.random]
    first = facts.chosen[0]
    text = (
        f"With seed {first['seed']} the chosen network reaches {percent(first['accuracy'], 2)}; {len(pool)} random "
        f"networks have {percent(statistics.fmean(pool), 2)} on average, {percent(max(pool), 2)} at best."
    )
    names = ["chosen", *(f"random {place}" for place in range(1, len(pool) + 1))]
    bars = {"last epoch": [100 * value for value in (first["accuracy"], *pool)]}
    figure = plot(grouped_bars(names, bars, value_label="accuracy in percent"), alt=text, caption="The same training.")
    listed = model_table(
        [{**one, "label": name} for name, one in zip(names, (first, *facts.random), strict=True)],
        "Random networks trained the same way",
    )
    return [section("Beside random networks", paragraph(text), figure, listed)]
