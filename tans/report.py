"""The pages of the TANS steps: `report.html` of a zoo, a meta-training, a search, a fine-tuning, an evaluation.

Each page is a function of the facts in `tans.report_inputs` and returns the whole document.
"""

from common.report import page, section
from common.report.sections import commands_section, facts_section
from common.report.text import percent
from tans.report_inputs import BuildFacts, MetaTrainFacts
from tans.report_parts import course_figures, map_figure, measure_table, source_figures, source_table


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
