"""The pages of the DaSS steps: `report.html` of a search, a distillation, an evaluation, a meta-training, a teacher.

Each page is a function of the facts in `dass.report_inputs` and returns the whole document; `common.report.write_page`
writes it.
"""

from common.report import (
    Curve,
    definitions,
    note,
    page,
    plot,
    row,
    section,
    training_curves,
)
from common.report.sections import (
    commands_section,
    curves_section,
    dataset_definitions,
    describe_seeds,
    facts_section,
    mean_defined,
    plural,
    predictions_section,
    samples_section,
)
from common.report.text import count, decimal, duration, mean_and_std, percent
from dass.report_inputs import (
    DistillFacts,
    EvaluateFacts,
    MetaTrainFacts,
    SearchFacts,
    TeacherFacts,
)
from dass.report_parts import (
    ACCURACIES,
    SCORE,
    accuracy_table,
    adaptation_definitions,
    correlation_parts,
    cost_table,
    database_table,
    describe_bounds,
    drawing_section,
    named_runs,
    pick_parts,
    ranking_figure,
    score_figures,
    share,
    student_table,
    teacher_definitions,
)


def search_page(facts: SearchFacts) -> str:
    """What was asked, what the candidates look like to the predictor, and what it chose.

    Raises:
        ValueError: no student is chosen, or `chosen` and `students` differ in length.
    """
    if not facts.chosen or len(facts.chosen) != len(facts.students):
        raise ValueError(f"search page: {len(facts.chosen)} indices for {len(facts.students)} students; give one each")
    best, num_candidates = facts.students[0], len(facts.scores)
    lead = (
        f"Of {num_candidates:,} candidates this student is ranked first: {count(best.num_params)} parameters and "
        f"{count(best.macs)} MACs, {share(best.num_params, facts.teacher.num_params)} and "
        f"{share(best.macs, facts.teacher.macs)} of the teacher's. No student was trained to find it."
    )
    asked = {
        **dataset_definitions(facts.dataset),
        **teacher_definitions(facts.teacher),
        "Candidates": f"{num_candidates:,}, seed {facts.seed}",
        "Bounds": describe_bounds(facts),
    }
    timings = {f"Time: {name}": duration(value) for name, value in facts.seconds.items()}
    return page(
        f"Search: {facts.dataset.name}",
        lead,
        section("What was asked", definitions(asked)),
        *samples_section(facts.dataset),
        section("Scores of the candidates", note(SCORE), score_figures(facts)),
        section(f"The top {len(facts.students)}", student_table(facts)),
        *drawing_section("The chosen student beside its teacher", best, facts.teacher),
        section("The predictor", definitions({**facts.predictor, **adaptation_definitions(facts), **timings})),
        *commands_section(facts.commands),
    )


def distill_page(facts: DistillFacts) -> str:
    """Accuracy of the distilled students against their teacher, over seeds."""
    first = facts.students[0]
    teacher = facts.teacher.accuracy if facts.teacher_run is None else facts.teacher_run.final_accuracy
    final = [run.final_accuracy for run in first.runs]
    lead = (
        f"{first.network.name}: final accuracy {mean_and_std(final)} ({describe_seeds(first.runs)}), "
        f"teacher {percent(teacher)}, "
        f"with {share(first.network.num_params, facts.teacher.num_params)} of the teacher's parameters and "
        f"{share(first.network.macs, facts.teacher.macs)} of its MACs."
    )
    return page(
        f"Distillation: {facts.dataset.name}",
        lead,
        section("Accuracy", accuracy_table(facts), note(ACCURACIES)),
        section("Cost", cost_table(facts.teacher, [student.network for student in facts.students])),
        *curves_section(named_runs(facts)),
        *drawing_section("Depth and width beside the teacher", first.network, facts.teacher),
        *predictions_section(facts.predictions, facts.dataset.class_names),
        section("Settings", definitions({**dataset_definitions(facts.dataset), **facts.settings})),
        *commands_section(facts.commands),
    )


def evaluate_page(facts: EvaluateFacts) -> str:
    """Rank correlations and picks on datasets whose students were all trained."""
    method = next(iter(facts.datasets[0].correlations))
    mean = mean_defined([ranking.correlations[method].spearman for ranking in facts.datasets])
    networks = sum(len(ranking.measured) for ranking in facts.datasets)
    lead = (
        f"{method} orders the trained students of {plural(len(facts.datasets), 'dataset')} with a mean Spearman "
        f"correlation of {decimal(mean)} ({networks:,} networks in all)."
    )
    scatters = [ranking_figure(ranking, method) for ranking in facts.datasets]
    return page(
        "Evaluation of the predictor",
        lead,
        section("Rank correlation", *correlation_parts(facts.datasets)),
        section("What the pick is worth", *pick_parts(facts.datasets)),
        section("Predicted and measured", note(SCORE), row(*scatters)),
        *facts_section("The predictor", facts.predictor),
        *commands_section(facts.commands),
    )


def meta_train_page(facts: MetaTrainFacts) -> str:
    """How meta-training went, and on which tasks."""
    episode, spearman = facts.kept
    lead = (
        f"The checkpoint of episode {episode:,} was kept: mean Spearman correlation {decimal(spearman)} over the "
        f"meta-valid tasks ({', '.join(facts.validation) or 'none'})."
    )
    loss = training_curves({"meta loss": [facts.losses]}, value_label="meta loss", step_label="episode", is_log=True)
    validation: dict[str, list[Curve]] = {name: [curve] for name, curve in facts.validation.items()}
    ranks = training_curves(validation, value_label="Spearman", step_label="episode", mark=(episode, spearman))
    figures = row(
        plot(
            loss,
            alt=f"Meta loss over {len(facts.losses.steps)} episodes",
            caption="Squared error on the query students.",
        ),
        plot(
            ranks,
            alt=f"Spearman correlation of each meta-valid task; the kept checkpoint has mean {decimal(spearman)}",
            caption="Rank correlation on the meta-valid tasks. The star is the mean at the checkpoint that was kept.",
        ),
    )
    undefined = {"Undefined validations": f"{facts.num_undefined} (constant prediction, counted as -1)"}
    return page(
        "Meta-training of the predictor",
        lead,
        section("Course", figures, definitions(undefined if facts.num_undefined else {})),
        section("Database", database_table(facts.database)),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )


def teacher_page(facts: TeacherFacts) -> str:
    """The training of a teacher."""
    run = facts.run
    lead = (
        f"The teacher reaches {percent(run.final_accuracy)} after its last epoch and {percent(run.best_accuracy)} at "
        f"its best on {facts.dataset.num_evaluation:,} evaluation images."
    )
    measures = {
        "Final accuracy": percent(run.final_accuracy),
        "Best accuracy": percent(run.best_accuracy),
        "Parameters": f"{count(facts.teacher.num_params)} ({facts.teacher.num_params:,})",
        "MACs of one image": f"{count(facts.teacher.macs)} ({facts.teacher.macs:,})",
    } | ({} if run.seconds is None else {"Time": duration(run.seconds)})
    return page(
        f"Teacher: {facts.dataset.name}",
        lead,
        section("Result", definitions(measures), note(ACCURACIES)),
        *curves_section({"teacher": [run]}),
        section("Dataset", definitions(dataset_definitions(facts.dataset))),
        *samples_section(facts.dataset),
        *facts_section("Settings", facts.settings),
        *commands_section(facts.commands),
    )
