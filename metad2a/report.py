"""The pages of the MetaD2A steps: `report.html` of a meta-training, a search, an evaluation, a training.

Each page is a function of the facts in `metad2a.report_inputs` and returns the whole document.
"""

from collections.abc import Mapping

from common.report import definitions, note, page, paragraph, section
from common.report.sections import (
    commands_section,
    curves_section,
    dataset_definitions,
    facts_section,
    predictions_section,
    samples_section,
)
from common.report.text import count, decimal, duration, percent
from metad2a.benchmark import NUM_BEST
from metad2a.report_inputs import EvaluateFacts, MetaTrainFacts, SearchFacts, TrainFacts
from metad2a.report_parts import (
    SCORE,
    accuracy_with_interval,
    all_cells_figure,
    arch_section,
    arch_table,
    course_figures,
    generation_definitions,
    generation_table,
    judged_definitions,
    method_figure,
    method_table,
    next_cells,
    random_parts,
    run_table,
    score_figures,
    source_table,
)


def meta_train_page(facts: MetaTrainFacts) -> str:
    """How a meta-training went, and on what."""
    kept = _kept(facts.kept)
    return page(
        f"Meta-training of the {facts.model}",
        f"{kept} The {facts.model} learned from tasks of {', '.join(source.name for source in facts.sources)}.",
        section("Course", course_figures(facts)),
        section("Database", source_table(facts.sources)),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def _kept(kept: Mapping[str, float]) -> str:
    if not kept:
        return "Nothing was held out, so the last state was kept."
    shown = ", ".join(f"{name} {decimal(value)}" for name, value in kept.items() if name not in ("epoch", "score"))
    return f"The state after epoch {int(kept['epoch']):,} was kept; on held-out tasks: {shown}."


def search_page(facts: SearchFacts) -> str:
    """What was asked, how generation went, which cells came first, and what the table knows of them.

    Raises:
        ValueError: no cell is chosen, or `chosen` and `cells` differ in length.
    """
    if not facts.chosen or len(facts.chosen) != len(facts.cells):
        raise ValueError(f"search page: {len(facts.chosen)} places for {len(facts.cells)} cells; give one each")
    best = facts.cells[0]
    known = "" if best.accuracy is None else f" The benchmark's table has {percent(best.accuracy, 2)} for it."
    lead = (
        f"Of {len(facts.scores):,} {facts.word} drawn for this dataset, this one is ranked first: "
        f"{count(best.num_params)} parameters and {count(best.macs)} MACs. No network was trained to find it.{known}"
    )
    asked = {**dataset_definitions(facts.dataset), "Seed": str(facts.seed)}
    timings = {f"Time: {name}": duration(value) for name, value in facts.seconds.items()}
    table = (
        [paragraph(facts.table_note)]
        if facts.table is None
        else [definitions(judged_definitions(facts.table)), note(f"{facts.table_note}. {_ORACLE}")]
    )
    return page(
        f"Search: {facts.dataset.name}",
        lead,
        arch_section("The one ranked first", best),
        *next_cells(facts.cells),
        section("What is known of their accuracies", *table),
        section(f"Scores of the {facts.word}", note(SCORE), score_figures(facts)),
        section(f"The top {len(facts.cells)}", arch_table(facts.cells)),
        section("Generation", definitions(generation_definitions(facts))),
        section("What was asked", definitions(asked)),
        *samples_section(facts.dataset),
        section("The models", definitions({**facts.pair, **timings})),
        *commands_section(facts.commands),
    )


_ORACLE = (
    f"The best of the top {NUM_BEST} is picked by these test accuracies, as in the published results: it says what an "
    "oracle would find there. Top-1 is what the search really gives."
)


def evaluate_page(facts: EvaluateFacts) -> str:
    """Several searches beside simpler ways to choose a cell."""
    ours = facts.methods[0]
    top1 = sum(result.top1 for result in ours.results) / len(ours.results)
    lead = (
        f"The cell that {ours.name} ranks first reaches {percent(top1, 2)} on average over {len(facts.seeds)} "
        f"searches; the best cell of the table has {percent(float(facts.accuracies.max()), 2)}."
    )
    return page(
        f"Evaluation: {facts.dataset}",
        lead,
        section("Accuracy", note(f"{facts.table_note}. {_ORACLE}"), method_figure(facts), method_table(facts.methods)),
        section("Generation", generation_table(facts)),
        section("Predicted and measured", note(SCORE), all_cells_figure(facts)),
        section("Ways to choose", definitions({method.name: method.note for method in facts.methods if method.note})),
        *facts_section("The models", facts.pair),
        *commands_section(facts.commands),
    )


def train_page(facts: TrainFacts) -> str:
    """Accuracy of the chosen architecture over seeds, and of random ones beside it."""
    lead = (
        f"The chosen architecture reaches {accuracy_with_interval(facts)} after the last epoch, with "
        f"{count(facts.chosen.arch.num_params)} parameters and {count(facts.chosen.arch.macs)} MACs."
    )
    return page(
        f"Training: {facts.dataset.name}",
        lead,
        section("Accuracy", run_table(facts.chosen)),
        *random_parts(facts),
        *curves_section({"chosen": facts.chosen.runs}),
        arch_section("The architecture", facts.chosen.arch),
        *predictions_section(facts.predictions, facts.dataset.class_names, "What the network says"),
        section("Settings", definitions({**dataset_definitions(facts.dataset), **facts.settings})),
        *commands_section(facts.commands),
    )
