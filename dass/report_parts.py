"""Sections that the pages of `dass.report` are composed of; a section without its facts is left out."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from common.report import (
    Fragment,
    block_widths,
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
    value_spread,
)
from common.report.facts import RunFacts
from common.report.sections import mean_defined
from common.report.text import count, decimal, duration, mean_and_std, percent
from dass.report_inputs import (
    Correlation,
    DistillFacts,
    NetworkFacts,
    RankingFacts,
    SearchFacts,
    StudentRuns,
    TaskFacts,
    Vector,
)

ACCURACIES = (
    "Best accuracy is the highest of all evaluations during training, as the published protocol reports it; since the "
    "highest is picked on the evaluation images themselves, it flatters. Final accuracy is that of the last epoch: "
    "nothing was picked, so it is unbiased."
)
SCORE = (
    "The predicted score ranks the candidates of this dataset. It is not a calibrated accuracy: only the order counts, "
    "and the accuracy of a student is known after distillation."
)


def teacher_definitions(teacher: NetworkFacts) -> dict[str, str | Fragment]:
    """Cost and accuracy of the teacher."""
    cost = f"{count(teacher.num_params)} parameters, {count(teacher.macs)} MACs"
    return {"Teacher": f"{teacher.name}, {cost}", "Teacher's accuracy": percent(teacher.accuracy)}


def describe_bounds(facts: SearchFacts) -> str:
    """The largest allowed costs in words."""
    bounds = [(facts.max_params, "parameters"), (facts.max_macs, "MACs")]
    texts = [f"at most {count(value)} {name}" for value, name in bounds if value is not None]
    return ", ".join(texts) or "none"


def adaptation_definitions(facts: SearchFacts) -> dict[str, str]:
    """Error on the teacher before and after the step towards it; empty where it was not taken."""
    if facts.teacher_error is None:
        return {}
    before, after = facts.teacher_error
    name = "Squared error on the teacher"
    return {name: f"{before:.4g} before, {after:.4g} after adaptation to it"}


def score_figures(facts: SearchFacts) -> Fragment:
    """Scores of all candidates against MACs and against parameters."""
    scores, best = _vector(facts.scores), facts.chosen[0]
    costs = [
        ("MACs", _vector(facts.macs), facts.max_macs, facts.teacher.macs),
        ("parameters", _vector(facts.num_params), facts.max_params, facts.teacher.num_params),
    ]
    plots = []
    for name, cost, bound, teacher in costs:
        drawing = cost_scatter(
            cost, scores, chosen=facts.chosen, cost_label=name, score_label="predicted score", bound=bound
        )
        alt = (
            f"Predicted score of {len(scores)} candidates against {name}. The chosen one: {count(int(cost[best]))} "
            f"{name}, score {scores[best]:.4f}; scores range from {scores.min():.4f} to {scores.max():.4f}."
        )
        caption = f"Score against {name}; the line is the best score at or below each cost. Teacher: {count(teacher)}."
        plots.append(plot(drawing, alt=alt, caption=caption))
    return row(*plots)


def student_table(facts: SearchFacts) -> Fragment:
    """The chosen students, best first."""
    columns = ["Rank", "Parameters", "of teacher", "MACs", "of teacher", "Predicted score", "Architecture"]
    rows: list[list[str | Fragment]] = []
    for rank, student in enumerate(facts.students, start=1):
        architecture = code(student.architecture)
        rows.append([str(rank), *_cost_cells(student, facts.teacher), decimal(student.score, 4), architecture])
    caption = (
        "Candidates by predicted score (for ranking, not an accuracy). Widths of the blocks joined by -, stages by _."
    )
    return table(columns, rows, caption=caption, words=(0, len(columns) - 1), marked=(0,))


def _cost_cells(network: NetworkFacts, teacher: NetworkFacts) -> list[str]:
    params, macs = share(network.num_params, teacher.num_params), share(network.macs, teacher.macs)
    return [count(network.num_params), params, count(network.macs), macs]


def drawing_section(title: str, student: NetworkFacts, teacher: NetworkFacts) -> list[Fragment]:
    """Depth and width of a student beside its teacher, if both are known."""
    if not student.widths or not teacher.widths:
        return []
    depths = [f"{len(ours)} of {len(theirs)}" for ours, theirs in zip(student.widths, teacher.widths, strict=True)]
    figure = plot(
        block_widths(student.widths, teacher.widths),
        alt=f"Channels of each block. Blocks of the student in each stage: {', '.join(depths)} of the teacher's.",
        caption="Blocks from input (top) to output; the bar is the number of channels, gray the teacher's.",
    )
    facts = definitions(
        {
            "Architecture": code(student.architecture),
            "Blocks in each stage": ", ".join(depths),
            "Parameters": f"{student.num_params:,} of {teacher.num_params:,}",
            "MACs": f"{student.macs:,} of {teacher.macs:,}",
        }
    )
    return [section(title, row(figure, facts))]


def accuracy_table(facts: DistillFacts) -> Fragment:
    """Every run of teacher and students, and mean and standard deviation over a student's seeds."""
    columns = ["Network", "Seed", "Final accuracy", "Best accuracy", "Before training", "Time"]
    rows, marked = [], []
    if facts.teacher_run is not None:
        rows.append([facts.teacher.name, *_run_cells(facts.teacher_run)])
    else:
        rows.append([facts.teacher.name, "", percent(facts.teacher.accuracy), "", "", ""])
    for student in facts.students:
        rows += [[student.network.name, *_run_cells(run)] for run in student.runs]
        if len(student.runs) > 1:
            marked.append(len(rows))
            rows.append(_mean_row(student))
    return table(columns, rows, caption="Accuracy on the evaluation images", marked=marked)


def _run_cells(run: RunFacts) -> list[str]:
    accuracies = [run.final_accuracy, run.best_accuracy, run.initial_accuracy]
    return [str(run.seed), *map(percent, accuracies), duration(run.seconds)]


def _mean_row(student: StudentRuns) -> list[str]:
    final = mean_and_std([run.final_accuracy for run in student.runs])
    best = mean_and_std([run.best_accuracy for run in student.runs])
    initial = [run.initial_accuracy for run in student.runs if run.initial_accuracy is not None]
    return [
        f"{student.network.name}, mean and std",
        f"{len(student.runs)} seeds",
        final,
        best,
        mean_and_std(initial),
        "",
    ]


def cost_table(teacher: NetworkFacts, students: Sequence[NetworkFacts]) -> Fragment:
    """Parameters and MACs of students as shares of the teacher's."""
    columns = ["Network", "Parameters", "of teacher", "MACs", "of teacher", "Compression"]
    rows = [[teacher.name, *_cost_cells(teacher, teacher), "1.0 x"]]
    for student in students:
        ratio = f"{teacher.num_params / student.num_params:.1f} x"
        rows.append([student.name, *_cost_cells(student, teacher), ratio])
    return table(columns, rows, caption="Cost of one image's forward pass; compression is by parameters")


def named_runs(facts: DistillFacts) -> dict[str, Sequence[RunFacts]]:
    """Runs by the name of their network, the teacher first."""
    teacher = {facts.teacher.name: [facts.teacher_run]} if facts.teacher_run is not None else {}
    return {**teacher, **{student.network.name: student.runs for student in facts.students}}


def correlation_parts(rankings: Sequence[RankingFacts]) -> list[Fragment]:
    """Rank correlations of all rankings on all datasets, drawn and in numbers."""
    names = list(dict.fromkeys(name for ranking in rankings for name in ranking.correlations))
    datasets = [ranking.dataset for ranking in rankings]
    undefined = Correlation(spearman=float("nan"))
    series = {name: [ranking.correlations.get(name, undefined).spearman for ranking in rankings] for name in names}
    ceilings = {ranking.dataset: ranking.ceiling.spearman for ranking in rankings if ranking.ceiling is not None}
    bars = plot(
        grouped_bars(datasets, series, value_label="Spearman correlation", limits=ceilings),
        alt="Spearman correlation of each ranking on each dataset; the values are in the table.",
        caption="Higher is better; 0 is chance."
        + (" Black line: what two measurements of the same networks agree on." if ceilings else ""),
    )
    tables = [_correlation_table(rankings, names, measure) for measure in ("spearman", "kendall")]
    explained = paragraph(
        "The label-noise ceiling is the correlation between two trainings of the same networks with other seeds: no "
        "predictor can be expected to rank much better than the measurements agree with themselves."
    )
    return [bars, *tables, *([explained] if ceilings else [])]


def _correlation_table(rankings: Sequence[RankingFacts], names: Sequence[str], measure: str) -> Fragment:
    def cells(values: Sequence[float]) -> list[str]:
        return [decimal(value) for value in (*values, mean_defined(values))]

    undefined = Correlation(spearman=float("nan"))
    rows = [[name, *cells([getattr(r.correlations.get(name, undefined), measure) for r in rankings])] for name in names]
    if any(ranking.ceiling is not None for ranking in rankings):
        rows.append(["label-noise ceiling", *cells([getattr(r.ceiling or undefined, measure) for r in rankings])])
    columns = ["Ranking by", *(ranking.dataset for ranking in rankings), "mean"]
    caption = f"{measure.capitalize()} rank correlation; the mean is over the datasets with a value"
    return table(columns, rows, caption=caption, marked=(0,))


def pick_parts(rankings: Sequence[RankingFacts]) -> list[Fragment]:
    """Where the chosen network stands among all that were trained."""
    pools = {ranking.dataset: _vector(ranking.measured) for ranking in rankings}
    picks = {ranking.dataset: float(pools[ranking.dataset][ranking.chosen]) for ranking in rankings}
    figure = plot(
        value_spread(pools, marks=picks, mark_label="chosen", value_label="measured accuracy"),
        alt="Accuracy of the chosen network within its pool; the values are in the table.",
        caption="All trained networks of a dataset, and the one that the predictor puts first.",
    )
    rows = []
    for name, pool in pools.items():
        better = int((pool > picks[name]).sum())
        measures = [picks[name], float(pool.mean()), float(np.median(pool)), float(pool.max())]
        rows.append([name, *map(percent, measures), f"{better + 1} of {len(pool)}"])
    columns = ["Dataset", "Chosen", "Pool mean", "Pool median", "Pool best", "Place of the chosen"]
    return [figure, table(columns, rows, caption="Measured accuracy of the chosen network and of its pool")]


def ranking_figure(ranking: RankingFacts, method: str) -> Fragment:
    """Predicted against measured on one dataset."""
    predicted, measured = _vector(ranking.predicted), _vector(ranking.measured)
    spearman = decimal(ranking.correlations[method].spearman)
    drawing = ranking_scatter(predicted, measured, chosen=[ranking.chosen], teacher=ranking.teacher_accuracy)
    caption = f"{ranking.dataset}: Spearman {spearman} over {len(measured)} networks."
    chosen = percent(float(measured[ranking.chosen]))
    return plot(drawing, alt=f"Measured accuracy against predicted score. {caption} Chosen: {chosen}.", caption=caption)


def database_table(tasks: Sequence[TaskFacts]) -> Fragment:
    """Tasks of the meta-database."""
    rows = []
    for task in tasks:
        accuracies = _vector(task.accuracies)
        measures = [accuracies.min(), np.median(accuracies), accuracies.max()] if len(accuracies) else [None] * 3
        rows.append(
            [task.name, task.role, f"{len(accuracies):,}", percent(task.teacher_accuracy), *map(percent, measures)]
        )
    columns = ["Task", "Role", "Students", "Teacher", "Worst student", "Median student", "Best student"]
    return table(columns, rows, caption="Tasks of the meta-database with their accuracies", words=(0, 1))


def _vector(values: Vector) -> NDArray[np.float64]:
    vector: NDArray[np.float64] = torch.as_tensor(values, dtype=torch.float64).detach().cpu().numpy()
    return vector


def share(part: int, whole: int) -> str:
    """A part as whole percent of a whole."""
    return percent(part / whole, 0) if whole else "-"
