"""Steps of pipeline files and of presets: checked before anything begins, and done one after the other."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.tasks import plan_task
from common.experiment.config import StepConfig as CommandConfig
from common.experiment.run import Run
from common.experiment.workers import Workers
from common.store.records import RecordStore
from mfkd.config import Mfkd1Config, MfKdConfig
from mfkd.evaluations import Fidelity
from mfkd.images import Images, check_classes, data_root_of
from mfkd.models import teacher_of
from mfkd.pipeline import SearchStep, TrainStep
from mfkd.recipes import Training
from mfkd.search_step import Found, search
from mfkd.train_step import train_models
from mfkd.training import Context, Place

_log = logging.getLogger(__name__)

PRODUCTS = ("output", "scratch", "best_model", "best_model_desc.json", "records.sqlite*", "pipeline.json")
"""What the steps of a run leave in its folder."""


@dataclass(frozen=True, kw_only=True)
class WorkConfig(CommandConfig):
    """Fields of the commands that train networks."""

    workers: Workers = field(default_factory=Workers)
    """Who trains networks."""


def check_steps(steps: Sequence[SearchStep | TrainStep], cfg: CommandConfig) -> None:
    """Look for what would stop a step hours later: datasets, numbers of classes, teachers.

    Raises:
        UsageError: a number of classes is not the dataset's.
        FileNotFoundError: a dataset or a teacher is not there.
        ValueError: a dataset is unknown.
    """
    for step in steps:
        plan = plan_task(step.images.dataset, data_root=data_root_of(step.images, cfg.data_root), seed=cfg.seed)[1]
        given = {f"{step.name}.trainer.teacher_num_classes": step.training.teacher_num_classes}
        if isinstance(step, SearchStep):
            given[f"{step.name}.search_space.custom.num_classes"] = step.num_classes
            _check_validation(step.name, step.images)
        elif step.model is not None:
            given[f"{step.name}.model.model_desc.custom.num_classes"] = step.model.num_classes
        check_classes(given, len(plan.classes), plan.id)
        _check_teacher(step, step.training)


def _check_validation(name: str, images: Images) -> None:
    if images.validate_on == "test":
        _log.warning("%s.dataset.compat_val: the search goes by test images, so their accuracy is no estimate", name)
    elif images.valid_from is None:
        _log.info("%s validates on the last fifth of the training images, not on test images", name)


def _check_teacher(step: SearchStep | TrainStep, training: Training) -> None:
    if training.teacher is None:
        return
    if isinstance(step, SearchStep):
        teacher_of(step.space)
    if not Path(training.teacher).expanduser().is_file():
        raise FileNotFoundError(
            f"{step.name}.trainer.teacher: there is no {training.teacher}: train one with "
            "`python -m mfkd train-teacher FILE`, or name another"
        )


def context_of(folder: Path, cfg: WorkConfig, store: RecordStore) -> Context:
    """What the steps of a run share, its folder for unfinished trainings made."""
    place = Place(data_root=cfg.data_root, data_seed=cfg.seed, gpu=cfg.gpu, scratch=folder / "scratch")
    place.scratch.mkdir(exist_ok=True)
    return Context(folder=folder, place=place, workers=cfg.workers, store=store)


def do_steps(
    steps: Sequence[SearchStep | TrainStep], cfg: WorkConfig, run: Run, say: Callable[[str], object]
) -> list[dict[str, Any]]:
    """All steps in order; what an interrupted run has done is not done again.

    Args:
        steps: what to do.
        cfg: where and by whom.
        run: takes tables, weights and metrics.
        say: told the result of each step, in one line.

    Returns:
        One result of plain values a step.

    Raises:
        UsageError, ValueError, RuntimeError: see `search` and `train_models`.
    """
    found: Found | None = None
    results: list[dict[str, Any]] = []
    with RecordStore(run.folder / "records.sqlite") as store:
        context = context_of(run.folder, cfg, store)
        for step in steps:
            if isinstance(step, SearchStep):
                found = search(step, _fidelity(step, found), context, found)
                results.append(found.result)
            else:
                results.append(train_models(step, context))
            say(line_of(results[-1]))
    _log_results(results, run)
    return results


def _fidelity(step: SearchStep, found: Found | None) -> Fidelity:
    """Algorithm 1 is all low fidelity; of the steps of algorithm 2 those that start from a winner are high."""
    return "low" if found is None or isinstance(step.algorithm, Mfkd1Config | MfKdConfig) else "high"


def _log_results(results: Sequence[dict[str, Any]], run: Run) -> None:
    """Accuracies into `metrics.csv`: one row an evaluation of a search, one a validation of a full training."""
    rows: list[tuple[int, str, dict[str, float]]] = []
    for result in results:
        if result["kind"] == "search":
            for number, one in enumerate(result["evaluations"]):
                split = f"{result['step']}.{one['fidelity']}"
                rows.append((number, split, {"accuracy": one["accuracy"], "seconds": one["seconds"]}))
        else:
            for model in result["models"]:
                for point in model["curve"]:
                    split = f"{result['step']}.{model['name']}"
                    rows.append((int(point["step"]), split, {"accuracy": point["accuracy"], "loss": point["loss"]}))
    for step, split, values in sorted(rows, key=lambda row: row[0]):
        run.log(step, values, split=split)


def line_of(result: dict[str, Any]) -> str:
    """A result of a step in one line."""
    if result["kind"] == "train":
        models = (f"{one['architecture']} {100 * one['accuracy']:.2f} %" for one in result["models"])
        return f"{result['step']}: {', '.join(models)}"
    winner = result["winner"]
    if winner["accuracy"] is None:
        accuracy = f"predicted {100 * winner['prediction']['mean']:.2f} %"
    else:
        accuracy = f"{100 * winner['accuracy']:.2f} %"
    return (
        f"{result['step']}: {result['num_evaluations']} of {result['num_points']:,} networks trained in "
        f"{result['seconds']:.0f} s; winner {winner['architecture']}, {accuracy} on validation images"
    )
