"""Parts that the pages of `metad2a.report` are composed of; a section without its facts is left out."""

import statistics
from collections.abc import Sequence

import numpy as np

from common.report import (
    Fragment,
    code,
    cost_scatter,
    definitions,
    grouped_bars,
    paragraph,
    plot,
    ranking_scatter,
    row,
    section,
    table,
    training_curves,
    value_spread,
)
from common.report.cells import cell_drawing
from common.report.text import count, decimal, mean_and_std, percent
from metad2a.benchmark import NUM_BEST, RankedAccuracies
from metad2a.report_inputs import (
    ArchFacts,
    EvaluateFacts,
    MetaTrainFacts,
    MethodFacts,
    SearchFacts,
    SourceFacts,
    TrainedArch,
    TrainFacts,
)

SCORE = (
    "The score ranks the cells for this dataset. It is not an accuracy: only the order counts, and the accuracy of a "
    "cell is known once it is trained, or from the benchmark's table where that knows the dataset."
)
_DRAWN = 2
"""Cells that are drawn beside the best."""
_MEASURES = {
    "validity": "graphs that are cells, of all that were drawn",
    "uniqueness": "distinct cells, of the valid graphs",
    "novelty": "cells that the generator did not learn from, of the distinct ones",
    "canonical": "graphs with exactly the edges of a cell's graph; validity does not ask for them",
}


def course_figures(facts: MetaTrainFacts) -> Fragment:
    """Training loss, and the measures on held-out tasks, over the steps."""
    loss = training_curves(
        {"training loss": [facts.losses]},
        value_label="loss of a row",
        step_label="step",
        is_log=facts.model == "predictor",
    )
    parts = [
        plot(
            loss,
            alt=f"Training loss over {len(facts.losses.steps)} steps, at the end {decimal(facts.losses.values[-1], 4)}",
            caption="Training loss, mean over the rows of a step.",
        )
    ]
    names = [
        name for name in ("validity", "canonical", "uniqueness", "spearman", "pearson") if name in facts.validation
    ]
    if names:
        ends = ", ".join(f"{name} {decimal(facts.validation[name].values[-1])}" for name in names)
        shares = training_curves(
            {name: [facts.validation[name]] for name in names}, value_label="share or correlation", step_label="step"
        )
        parts.append(
            plot(
                shares,
                alt=f"Measures on held-out tasks; at the end {ends}",
                caption=_course(facts.model),
            )
        )
    return row(*parts)


def _course(model: str) -> str:
    if model == "generator":
        return "On held-out tasks: shares of the drawn graphs that are cells, have a cell's edges, and are distinct."
    return (
        "On held-out tasks and cells: mean Spearman correlation inside a task, by which the state is kept, and "
        "Pearson's over all tasks at once, which the released code takes and which rewards knowing how hard a task is."
    )


def source_table(sources: Sequence[SourceFacts]) -> Fragment:
    """Source sets of the meta-database."""
    rows = []
    for source in sources:
        accuracies = source.accuracies.double().numpy()
        measures = [accuracies.min(), np.median(accuracies), accuracies.max()]
        rows.append([source.name, f"{source.num_tasks:,}", f"{len(accuracies):,}", *map(percent, measures)])
    columns = ["Source", "Tasks", "Labels", "Worst cell", "Median cell", "Best cell"]
    return table(columns, rows, caption="Sources of the meta-database with the accuracies of their cells")


def arch_section(title: str, cell: ArchFacts) -> Fragment:
    """The drawing of an architecture with its figures."""
    facts: dict[str, str | Fragment] = {
        "Architecture": code(cell.text),
        "Parameters": f"{cell.num_params:,}",
        "MACs of one image": f"{cell.macs:,}",
    }
    if cell.index is not None:
        facts["Index in the benchmark"] = f"{cell.index:,}"
    if cell.accuracy is not None:
        facts["Accuracy in the table"] = percent(cell.accuracy, 2)
    if cell.rank is not None:
        facts["Rank in the benchmark"] = f"{cell.rank:,} of all cells, by that accuracy"
    if not cell.is_connected:
        facts["Warning"] = "no path leads from its input to its output: it learns nothing"
    return section(title, row(_drawing(cell), definitions(facts)))


def _drawing(arch: ArchFacts) -> Fragment:
    """A cell as a graph; a MobileNetV3 network as a table of its stages."""
    if arch.stages:
        rows = [
            [str(number), " ".join(f"{kernel}x{kernel} e{expansion}" for kernel, expansion in stage)]
            for number, stage in enumerate(arch.stages, start=1)
        ]
        return table(["Stage", "Blocks"], rows, caption="Kernel and expansion of each block", words=(0, 1))
    operations = ", ".join(f"{source} to {target} {operation}" for source, target, operation in arch.edges)
    return plot(cell_drawing(arch.edges), alt=f"The cell: {operations}", caption="From the input (top) to the output.")


def next_cells(archs: Sequence[ArchFacts]) -> list[Fragment]:
    """Drawings of the cells that come after the best, as far as there are any; other architectures are not drawn."""
    shown = [arch for arch in archs[1 : 1 + _DRAWN] if arch.edges]
    if not shown:
        return []
    drawings = []
    for place, cell in enumerate(shown, start=2):
        known = "" if cell.accuracy is None else f", {percent(cell.accuracy, 2)} in the table"
        caption = f"Rank {place}: {count(cell.num_params)} parameters{known}."
        drawings.append(plot(cell_drawing(cell.edges), alt=f"The cell {cell.text}", caption=caption))
    return [section("The next ones", row(*drawings))]


def judged_definitions(judged: RankedAccuracies) -> dict[str, str | Fragment]:
    """Accuracies of a ranking by name."""
    return {
        "Top-1": percent(judged.top1, 2),
        f"Best of the top {NUM_BEST} (oracle)": percent(judged.best_of_top, 2),
        f"Mean of the top {NUM_BEST}": percent(judged.mean_of_top, 2),
        "Mean of all generated": percent(judged.mean, 2),
        "Spearman among them": decimal(judged.spearman),
    }


def score_figures(facts: SearchFacts) -> Fragment:
    """Scores against costs, and against accuracies where the table has them."""
    scores, best, cost = facts.scores.double().numpy(), facts.chosen[0], facts.cost_label
    costs = np.asarray(facts.costs, dtype=np.float64)
    drawing = cost_scatter(
        costs, scores, chosen=facts.chosen[:1], cost_label=cost, score_label="predicted score", bound=facts.bound
    )
    alt = f"Score of {len(scores)} {facts.word} against {cost}; the first has {count(int(costs[best]))} {cost}."
    parts = [plot(drawing, alt=alt, caption=f"Score against {cost}; the line is the best score at or below each.")]
    if facts.accuracies is not None and facts.table is not None:
        measured = facts.accuracies.double().numpy()
        caption = f"Spearman {decimal(facts.table.spearman)} over {len(measured)} cells."
        parts.append(
            plot(
                ranking_scatter(scores, measured, chosen=[best]),
                alt=f"Accuracy in the table against score. {caption} First: {percent(float(measured[best]), 2)}.",
                caption=caption,
            )
        )
    return row(*parts)


def arch_table(cells: Sequence[ArchFacts]) -> Fragment:
    """Chosen cells, best first."""
    has_accuracy = any(cell.accuracy is not None for cell in cells)
    known = ["Accuracy", "Its rank"] if has_accuracy else []
    columns = ["Rank", "Score", "Parameters", "MACs", *known, "Architecture"]
    rows: list[list[str | Fragment]] = []
    for rank, cell in enumerate(cells, start=1):
        accuracy: list[str | Fragment] = [percent(cell.accuracy, 2), f"{cell.rank or 0:,}"] if has_accuracy else []
        costs = [count(cell.num_params), count(cell.macs)]
        rows.append([str(rank), decimal(cell.score, 4), *costs, *accuracy, code(cell.text)])
    beside = ", with the table's accuracy and its rank among all" if has_accuracy else ""
    return table(columns, rows, caption=f"By predicted score{beside}", words=(0, len(columns) - 1), marked=(0,))


def generation_definitions(facts: SearchFacts) -> dict[str, str | Fragment]:
    """Counts of a generation, each with what it means."""
    measures, num_cells = facts.measures, len(facts.scores)
    shares: dict[str, str | Fragment] = {
        name.capitalize(): f"{percent(measures[name])} ({meaning})"
        for name, meaning in _MEASURES.items()
        if measures.get(name) is not None
    }
    graphs, classes = int(measures["num_graphs"] or 0), int(measures["distinct_classes"] or 0)
    return {
        "Graphs drawn": f"{graphs:,}, until {num_cells:,} distinct {facts.word} had come",
        **shares,
        "Different functions": f"{classes:,} of {num_cells:,} {facts.word}",
    }


def generation_table(facts: EvaluateFacts) -> Fragment:
    """Measures of the generation over seeds."""
    rows = []
    for name, values in facts.measures.items():
        shown = mean_and_std(values) if name in _MEASURES else _plain(values)
        rows.append([name.replace("_", " ").capitalize(), shown, _MEASURES.get(name, "")])
    rows.append(["Spearman over all cells", _plain(facts.spearman_all, 3), "the predictor on all 15,625 cells"])
    return table(
        ["Measure", "Mean and std", "Meaning"], rows, caption="Generation and prediction over the seeds", words=(0, 2)
    )


def method_table(methods: Sequence[MethodFacts]) -> Fragment:
    """Accuracies of every way to choose."""
    rows = []
    for method in methods:
        values = [[getattr(r, name) for r in method.results] for name in ("top1", "best_of_top", "mean_of_top", "mean")]
        cells = [_percent(found) for found in values]
        rows.append([method.name, *cells, _plain([result.spearman for result in method.results], 3)])
    columns = ["Way to choose", "Top-1", f"Best of {NUM_BEST} (oracle)", f"Mean of {NUM_BEST}", "Mean", "Spearman"]
    return table(columns, rows, caption="Accuracies, mean and standard deviation over the seeds", marked=(0,))


def method_figure(facts: EvaluateFacts) -> Fragment:
    """Top-1 of every way to choose, against all cells."""
    space = facts.accuracies.double().numpy()
    others = {"better half of all cells": space[space >= np.quantile(space, 0.5)]}
    groups = {method.name: [result.mean_of_top for result in method.results] for method in facts.methods}
    marks = {method.name: statistics.fmean(result.top1 for result in method.results) for method in facts.methods}
    shown = ", ".join(f"{name} {percent(value, 2)}" for name, value in marks.items())
    return plot(
        value_spread(groups | others, marks=marks, mark_label="top-1", value_label="accuracy"),
        alt=f"Mean accuracy of the cells that each way ranks first: {shown}",
        caption=f"Star: mean of the first cell. Bar: means of the first {NUM_BEST}. Last row: what there is.",
    )


def all_cells_figure(facts: EvaluateFacts) -> Fragment:
    """Scores of all cells against their accuracies."""
    predicted, measured = facts.predicted.double().numpy(), facts.accuracies.double().numpy()
    caption = f"All {len(measured):,} cells, seed {facts.seeds[0]}: Spearman {decimal(facts.spearman_all[0])}."
    drawing = ranking_scatter(predicted, measured, chosen=[int(predicted.argmax())])
    return plot(drawing, alt=f"Accuracy in the table against score. {caption}", caption=caption)


def accuracy_with_interval(facts: TrainFacts) -> str:
    """Mean final accuracy, with its 95 % interval where there is one."""
    mean = statistics.fmean(run.final_accuracy for run in facts.chosen.runs)
    if facts.interval is None:
        return percent(mean, 2)
    return (
        f"{100 * mean:.2f} +- {100 * facts.interval:.2f} % (mean of {len(facts.chosen.runs)} seeds and 95 % interval)"
    )


def run_table(trained: TrainedArch) -> Fragment:
    """Every training of a cell."""
    rows = [
        [str(run.seed), percent(run.final_accuracy, 2), percent(run.best_accuracy, 2), percent(run.initial_accuracy, 2)]
        for run in trained.runs
    ]
    columns = ["Seed", "Last epoch", "Best epoch", "Before training"]
    caption = "Accuracy on the evaluation images; that of the last epoch counts, as nothing was picked for it"
    return table(columns, rows, caption=caption)


def random_parts(facts: TrainFacts) -> list[Fragment]:
    """The chosen architecture among random ones that were trained the same way, if there are any."""
    if not facts.random:
        return []
    first = facts.chosen.runs[0]
    pool = [other.runs[0].final_accuracy for other in facts.random]
    better = sum(value > first.final_accuracy for value in pool)
    text = (
        f"With seed {first.seed} the chosen one reaches {percent(first.final_accuracy, 2)}, place {better + 1} of "
        f"{len(pool) + 1}; the random ones have {mean_and_std(pool)} on average, {percent(max(pool), 2)} at best."
    )
    bars = {"last epoch": [first.final_accuracy * 100, *(value * 100 for value in pool)]}
    names = [facts.chosen.name, *(other.name for other in facts.random)]
    figure = plot(
        grouped_bars(names, bars, value_label="accuracy in percent"),
        alt=f"Final accuracy of the chosen one and of {len(pool)} random ones. {text}",
        caption="All from the same seed, trained the same way.",
    )
    rows: list[list[str | Fragment]] = [
        [each.name, percent(each.runs[0].final_accuracy, 2), count(each.arch.num_params), code(each.arch.text)]
        for each in (facts.chosen, *facts.random)
    ]
    columns = ["", "Last epoch", "Parameters", "Architecture"]
    listed = table(columns, rows, caption="Random ones trained the same way", words=(0, 3), marked=(0,))
    return [section("Beside random ones", paragraph(text), figure, listed)]


def _percent(values: Sequence[float]) -> str:
    """Mean and standard deviation with two digits: hundredths of a percent decide here."""
    mean = f"{100 * statistics.fmean(values):.2f}"
    return f"{mean} %" if len(values) == 1 else f"{mean} +- {100 * statistics.stdev(values):.2f} %"


def _plain(values: Sequence[float], digits: int = 1) -> str:
    mean = decimal(statistics.fmean(values), digits)
    return mean if len(values) == 1 else f"{mean} +- {decimal(statistics.stdev(values), digits)}"
