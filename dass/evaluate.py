"""Step `evaluate`: how well the predictor ranks students of unseen datasets, against students that were trained.

Source: Lee et al., ICLR 2023, rank correlation on unseen datasets.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.data.tasks import open_task, task_id
from common.experiment.config import StepConfig, UsageError
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import open_run
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.meta.ranking import kendall, spearman
from common.report.facts import commands_of
from common.spaces.resnet import ResNetArch, ResNetSpace, check_resolution
from dass.collect import PoolConfig, architectures_of, collect_task
from dass.database import TaskTable, load_database, save_table
from dass.networks import load_network
from dass.predictor import load_predictor
from dass.report import evaluate_page
from dass.report_inputs import Correlation, EvaluateFacts, RankingFacts
from dass.search import check_predictor, predictor_card, rank
from dass.shipped import SHIPPED_DATABASE, SHIPPED_PREDICTOR
from dass.teachers import TEACHER_RECIPE, TeacherConfig
from dass.train_teacher import ensure_teacher

_PRODUCTS = ("scratch", "tables", "records.sqlite*")
UNSEEN = ("cub", "dtd", "quickdraw", "stanford_cars")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StepConfig):
    """Distil a pool of students on unseen datasets and compare their accuracies with the predictor's ranking."""

    tasks: tuple[str, ...] = UNSEEN
    """Datasets that the predictor has not seen."""
    resolution: int = 64
    """Side of the images."""
    space: ResNetSpace = field(default_factory=ResNetSpace)
    """Where the students come from."""
    teacher_recipe: Recipe = TEACHER_RECIPE
    """How missing teachers are trained."""
    predictor: Path = SHIPPED_PREDICTOR
    """Meta-trained predictor."""
    database: Path | None = SHIPPED_DATABASE
    """The predictor's database; none of its tasks and students may be used here."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(num_students=50))
    """The students; a second seed also gives the ceiling that label noise sets."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_resolution(self.resolution)
        if not self.tasks:
            raise ValueError("tasks: give at least one dataset")


def evaluate(cfg: EvaluateConfig) -> None:
    """Run the step."""
    artifact = load_predictor(cfg.predictor)
    check_predictor(artifact, cfg.space, cfg.resolution, cfg.predictor)
    exclude = _unseen_only(cfg)
    folder = cfg.out or Path("exp/dass/evaluate") / slug("-".join(cfg.tasks))
    with open_run(folder, program="dass", step="evaluate", config=cfg, products=_PRODUCTS) as run:
        if run.result is None:
            results, rankings, described = {}, [], []
            for name in cfg.tasks:
                table, scores = _measure(cfg, name, folder, exclude)
                rankings.append(_ranking(table, scores))
                described.append(table.description)
                results[table.task] = _result(table, scores, rankings[-1])
            facts = EvaluateFacts(
                datasets=rankings,
                predictor={"Datasets": "; ".join(described)} | predictor_card(artifact, cfg.predictor),
                commands=commands_of("dass", "evaluate", folder),
            )
            write_text(folder / "report.html", evaluate_page(facts))
            run.finish({"tasks": results, "mean_spearman": _means(rankings)})
        assert run.result is not None
        _report(run.result, folder)


def _unseen_only(cfg: EvaluateConfig) -> set[ResNetArch]:
    """Students that the predictor was trained on.

    Raises:
        UsageError: one of the tasks is in its database.
    """
    if cfg.database is None:
        return set()
    asked = {task_id(name, data_root=cfg.data_root) for name in cfg.tasks}
    seen = [task for task in load_database(cfg.database) if task in asked]
    if seen:
        raise UsageError(f"{', '.join(seen)}: in the predictor's database {cfg.database}, so not unseen")
    return architectures_of(cfg.database, cfg.space)


def _measure(cfg: EvaluateConfig, name: str, folder: Path, exclude: set[ResNetArch]) -> tuple[TaskTable, Tensor]:
    """Distil the pool of one dataset, and score it."""
    task = open_task(name, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    teacher_file = ensure_teacher(cfg, TeacherConfig(recipe=cfg.teacher_recipe), task, cfg.space, name)
    table = collect_task(name, teacher_file, cfg.space, cfg.pool, cfg.workers, cfg=cfg, folder=folder, exclude=exclude)
    save_table(folder / "tables" / f"{slug(table.task)}.safetensors", table)
    archs = [cfg.space.parse(text) for text in table.architectures]
    ranking = rank(load_predictor(cfg.predictor), load_network(teacher_file), cfg.space, archs, gpu=cfg.gpu)
    return table, ranking.prediction.scores


def _ranking(table: TaskTable, scores: Tensor) -> RankingFacts:
    rankers = {
        "DaSS": scores,
        "parameters": table.num_params,
        "MACs": table.macs,
        "zero-shot accuracy": table.initial_accuracy,
    }
    ceiling = None
    if table.num_seeds > 1:
        ceiling = _correlation(table.seed_best_accuracy[:, 0], table.seed_best_accuracy[:, 1])
    return RankingFacts(
        dataset=f"{table.task} (reduced)" if "reduced" in table.description else table.task,
        predicted=scores,
        measured=table.best_accuracy,
        correlations={name: _correlation(values, table.best_accuracy) for name, values in rankers.items()},
        chosen=int(scores.argmax()),
        ceiling=ceiling,
        teacher_accuracy=table.teacher_best_accuracy,
    )


def _correlation(first: Tensor, second: Tensor) -> Correlation:
    return Correlation(spearman=spearman(first.float(), second.float()), kendall=kendall(first.float(), second.float()))


def _result(table: TaskTable, scores: Tensor, ranking: RankingFacts) -> dict[str, Any]:
    measured = table.best_accuracy
    described = {name: vars(correlation) for name, correlation in ranking.correlations.items()}
    if ranking.ceiling is not None:
        described["label noise (two seeds)"] = vars(ranking.ceiling)
    return {
        "description": table.description,
        "num_students": table.num_students,
        "seeds": table.meta["seeds"],
        "teacher": table.teacher_best_accuracy,
        "chosen": {"arch": table.architectures[ranking.chosen], "accuracy": float(measured[ranking.chosen])},
        "pool": {
            "mean": float(measured.mean()),
            "median": float(torch.quantile(measured, 0.5)),
            "best": float(measured.max()),
            "std": float(measured.std()),
        },
        "correlations": described,
        "scores": scores.tolist(),
        "measured": measured.tolist(),
    }


def _means(rankings: list[RankingFacts]) -> dict[str, float]:
    return {
        name: sum(ranking.correlations[name].spearman for ranking in rankings) / len(rankings)
        for name in rankings[0].correlations
    }


def _report(result: dict[str, Any], folder: Path) -> None:
    print(f"{'dataset':<16} {'ranking':<24} {'Spearman':>9} {'Kendall':>9}")
    for task, found in result["tasks"].items():
        for name, value in found["correlations"].items():
            print(f"{task:<16} {name:<24} {value['spearman']:>9.3f} {value['kendall']:>9.3f}")
        pool = found["pool"]
        print(
            f"{task:<16} chosen {100 * found['chosen']['accuracy']:.2f} %, pool of {found['num_students']}: mean "
            f"{100 * pool['mean']:.2f}, median {100 * pool['median']:.2f}, best {100 * pool['best']:.2f} %, teacher "
            f"{100 * found['teacher']:.2f} %"
        )
    means = ", ".join(f"{name} {value:.3f}" for name, value in result["mean_spearman"].items())
    print(f"mean Spearman: {means}\nreport: {folder / 'report.html'}")
