"""The pages of the comparisons: with random search, of losses, and on NAS-Bench-201's table."""

from collections.abc import Sequence

import numpy as np

from common.report import (
    Curve,
    Fragment,
    code,
    grouped_bars,
    note,
    page,
    plot,
    ranking_scatter,
    row,
    section,
    table,
    training_curves,
)
from common.report.sections import commands_section, facts_section
from common.report.text import decimal, duration, mean_and_std, percent
from mfkd.report_inputs import Arm, BenchmarkFacts, CorrelateFacts, EvaluateFacts
from mfkd.report_parts import spread


def evaluate_page(facts: EvaluateFacts) -> str:
    """Searches beside random search at equal training cost."""
    ends = [f"{arm.name} {mean_and_std(arm.test)}" for arm in facts.arms]
    lead = f"Test accuracy after the same final training, over {len(facts.seeds)} seeds: {', '.join(ends)}."
    teacher = facts.teacher["accuracy"]
    costs = (
        "Both ways cost as many multiply-accumulates of training: an image counts as three forward passes of "
        "the network, and one of the teacher where it is distilled. The training of the teacher is counted as well."
    )
    if teacher is not None:
        costs += f" The teacher has {percent(teacher)} on the test images."
    bars = {arm.name: [100 * value for value in arm.test] for arm in facts.arms}
    drawing = grouped_bars([f"seed {seed}" for seed in facts.seeds], bars, value_label="test accuracy in percent")
    figure = plot(drawing, alt=lead, caption="Test accuracy of the networks found, one search of each kind a seed.")
    return page(
        f"Evaluation: {facts.dataset}",
        lead,
        section("Test accuracy", note(costs), figure, _arm_table(facts.arms)),
        section("Networks found", _found_table(facts)),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def _arm_table(arms: Sequence[Arm]) -> Fragment:
    rows = []
    for arm in arms:
        known = [value for value in arm.validation if value is not None]
        costs = [spread(arm.num_high, 1), spread(arm.macs, 2, 1e-12), duration(float(np.mean(arm.seconds)))]
        rows.append([arm.name, mean_and_std(arm.test), mean_and_std(known), *costs])
    columns = ["Way to search", "Test accuracy", "Validation when chosen", "Full trainings", "T MACs", "Time"]
    return table(columns, rows, caption="Mean and standard deviation over the seeds", marked=(0,))


def _found_table(facts: EvaluateFacts) -> Fragment:
    rows: list[list[str | Fragment]] = [
        [f"{arm.name}, seed {seed}", percent(test, 2), percent(valid, 2), f"{high}", code(text)]
        for arm in facts.arms
        for seed, test, valid, high, text in zip(
            facts.seeds, arm.test, arm.validation, arm.num_high, arm.architectures, strict=True
        )
    ]
    columns = ["Search", "Test", "Validation", "Full trainings", "Network"]
    return table(columns, rows, caption="Every network that was found", words=(0, 4))


def correlate_page(facts: CorrelateFacts) -> str:
    """Rank correlations of cheap trainings with full ones, by loss."""
    num = len(facts.high)
    ends = [f"{name} {spread(facts.kendall[name])}" for name in facts.losses]
    lead = f"Kendall's tau of cheap with full trainings over {num} networks: {', '.join(ends)}."
    figures = []
    for name in facts.losses:
        first = facts.low[name][0]
        caption = f"{name}, first seed: tau {decimal(facts.kendall[name][0], 2)}."
        drawing = ranking_scatter(first, facts.high)
        figures.append(plot(drawing, alt=f"Full against cheap accuracy. {caption}", caption=caption))
    rows = []
    for name, taus in facts.kendall.items():
        low = [float(np.mean(seed)) for seed in facts.low.get(name, ())]
        rows.append([name, spread(taus), mean_and_std(low)])
    text = (
        "The last row, if there, compares two full trainings of the same networks: no cheap ranking can be expected to "
        "agree much better with a full one than those agree with each other. MACs and parameters cost no training."
    )
    columns = ["Ranked by", "Kendall's tau", "Mean accuracy at low fidelity"]
    return page(
        f"Fidelities: {facts.dataset}",
        lead,
        section("Rank correlation", note(text), table(columns, rows, caption="Mean and deviation over the seeds")),
        section("Cheap and full accuracies", row(*figures)),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def benchmark_page(facts: BenchmarkFacts) -> str:
    """Searches on the table of NAS-Bench-201."""
    ends = [f"{name} {percent(values[-1], 2)}" for name, values in facts.curves.items()]
    lead = (
        f"Best accuracy found on average over {facts.num_seeds} seeds, at the end: {', '.join(ends)}. The best cell of "
        f"the table has {percent(facts.best, 2)}."
    )
    by_looks = {name: [Curve(list(range(1, len(values) + 1)), list(values))] for name, values in facts.curves.items()}
    by_cost = {name: [Curve(list(facts.costs[name]), list(values))] for name, values in facts.curves.items()}
    looks = training_curves(
        by_looks, value_label="best accuracy found", step_label="high-fidelity look-ups", is_fraction=True
    )
    costs = training_curves(
        by_cost, value_label="best accuracy found", step_label="trainings of 200 epochs, all paid", is_fraction=True
    )
    text = (
        "Low fidelity is the validation accuracy after 12 epochs, high fidelity the test accuracy after 200, as the "
        "table has no other. So this measures how fast a search finds good entries of the table; it is no estimate on "
        "unseen images. A low-fidelity look-up costs 12 of 200 epochs and is counted in the second figure."
    )
    return page(
        f"NAS-Bench-201: {facts.dataset}",
        lead,
        section(
            "Accuracy found",
            note(text),
            row(
                plot(looks, alt=lead, caption="Against high-fidelity look-ups; low-fidelity ones are free here."),
                plot(costs, alt=lead, caption="Against the cost of all look-ups, in trainings of 200 epochs."),
            ),
            table(facts.columns, facts.table, caption="Mean and standard deviation over the seeds, in percent"),
        ),
        *commands_section(facts.commands),
    )
