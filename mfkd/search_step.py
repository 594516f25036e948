"""A search step of a pipeline: algorithm 1 or a step of algorithm 2 over networks that are really trained.

Source: Trofimov et al., arXiv 2006.08341; released code for Vega (files that a step leaves).
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.data.tasks import Task
from common.experiment.config import UsageError
from common.experiment.files import write_json
from common.experiment.parallel import Job, map_resumable
from common.store.records import Record
from mfkd.acquisition import Choice
from mfkd.algorithms import mfkd1, mfkd2_step
from mfkd.config import Mfkd1Config
from mfkd.domain import ProductDomain
from mfkd.evaluations import Evaluation, Fidelity
from mfkd.models import Model, model_at
from mfkd.outputs import Evaluated, write_tables
from mfkd.pipeline import SearchStep
from mfkd.training import Context, PointJob, Setting, task_of, teacher_digest, train_point

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search step ends with.

    Attributes:
        space: name of the space.
        point: index of the winner in it.
        result: plain values for `result.json`.
    """

    space: str
    point: int
    result: dict[str, Any]


def search(step: SearchStep, fidelity: Fidelity, context: Context, start: Found | None) -> Found:
    """Search, and write tables, the winner's description and its index.

    Args:
        step: what to search, how.
        fidelity: of the step's evaluations.
        context: of the run; evaluations that are in its store are not made again.
        start: winner of the search step before, from which algorithm 2 begins.

    Raises:
        UsageError: the step before searched another space.
        ValueError, RuntimeError: see `mfkd1`, `mfkd2_step` and the trainer.
    """
    task = task_of(step.images, context.place)
    evaluations = _Evaluations(step, fidelity, context, task)
    domain = ProductDomain(tuple(levels.numpy() for levels in step.space.grid.scaled_levels))
    if isinstance(step.algorithm, Mfkd1Config):
        predicted = mfkd1(domain, evaluations, step.algorithm)
        return _finish(evaluations, predicted.evaluations, predicted.choice.point, predicted.choice)
    if start is not None and start.space != step.space.name:
        raise UsageError(f"{step.name} starts from the winner of a step that searched another space: write one space")
    first = None if start is None else start.point
    winner = mfkd2_step(domain, evaluations, fidelity, step.algorithm, start=first)
    return _finish(evaluations, winner.evaluations, winner.best.point, None)


class _Evaluations:
    """Trains points, or finds them in the store."""

    def __init__(self, step: SearchStep, fidelity: Fidelity, context: Context, task: Task) -> None:
        self.step, self.context, self.task = step, context, task
        self.setting = Setting(
            place=context.place,
            images=step.images,
            space=step.space,
            training=step.training,
            fidelity=fidelity,
            teacher=teacher_digest(step.space, step.training, task),
        )

    def __call__(self, points: Sequence[int], fidelity: Fidelity) -> list[float]:
        """Accuracies of points, in their order; results are kept by key, so workers may end in any order."""
        jobs = {job.key: job for job in (PointJob(setting=self.setting, point=point) for point in points)}

        def keep(key: str, record: Record) -> None:
            self.context.store.add(record)
            jobs[key].checkpoint.unlink(missing_ok=True)
            _log.info("%s %s %s: %.2f %%", self.step.name, key, record.architecture, 100 * record.final_accuracy)

        map_resumable(
            train_point,
            [Job(key=key, args=(job,)) for key, job in jobs.items()],
            done=lambda key: self._find(jobs[key].point) is not None,
            store=keep,
            backend=self.context.workers.backend,
            workers=self.context.workers.num,
            threads=self.context.workers.threads,
            description=f"{self.step.name}, {fidelity} fidelity",
        )
        return [self.record(point).final_accuracy for point in points]

    def record(self, point: int) -> Record:
        """The record of a point that was evaluated."""
        found = self._find(point)
        assert found is not None
        return found

    def model(self, point: int) -> Model:
        """The network of a point."""
        return model_at(self.step.space, point, self.task.num_classes)

    def _find(self, point: int) -> Record | None:
        space = self.step.space
        return self.context.store.get(
            task=self.task.id,
            space=space.name,
            architecture=self.model(point).text,
            recipe=self.setting.recipe,
            seed=self.setting.training.seed,
        )


def _finish(evaluations: _Evaluations, made: Sequence[Evaluation], winner: int, prediction: Choice | None) -> Found:
    step, context, space = evaluations.step, evaluations.context, evaluations.step.space
    folder = context.folder_of(step.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        Evaluated(
            point=one.point,
            fidelity=one.fidelity,
            record=evaluations.record(one.point),
            description=evaluations.model(one.point).description,
        )
        for one in made
    ]
    front = write_tables(folder, rows)
    description = evaluations.model(winner).description
    write_json(folder / f"desc_{winner}.json", description)
    write_json(context.folder / "best_model_desc.json", description)
    write_json(context.folder / "best_model", {"space": space.name, "index": winner})
    result = {
        **_described(evaluations),
        "num_evaluations": len(made),
        "seconds": sum(row.record.seconds for row in rows),
        "winner": _winner(evaluations, winner, made, prediction),
        "evaluations": [_plain(row) for row in rows],
        "pareto_front": [rows[row].point for row in front],
    }
    return Found(space=space.name, point=winner, result=result)


def _described(evaluations: _Evaluations) -> dict[str, Any]:
    """What was searched, how."""
    step = evaluations.step
    return {
        "step": step.name,
        "kind": "search",
        "algorithm": "MFKD1" if isinstance(step.algorithm, Mfkd1Config) else "MFKD2",
        "fidelity": evaluations.setting.fidelity,
        "loss": step.training.recipe.loss,
        "task": evaluations.task.id,
        "description": evaluations.task.description,
        "space": step.space.name,
        "num_points": step.space.size(),
    }


def _winner(
    evaluations: _Evaluations, winner: int, made: Sequence[Evaluation], prediction: Choice | None
) -> dict[str, Any]:
    """The winner; one that was only predicted has no accuracy."""
    model = evaluations.model(winner)
    cost = model.cost(evaluations.task.num_classes, evaluations.task.resolution)
    accuracy = next((one.accuracy for one in made if one.point == winner), None)
    described = {"index": winner, "architecture": model.text, "accuracy": accuracy, **asdict(cost)}
    if prediction is None:
        return described
    return described | {"prediction": {"mean": prediction.mean, "std": prediction.std}}


def _plain(row: Evaluated) -> dict[str, Any]:
    record = row.record
    return {
        "index": row.point,
        "architecture": record.architecture,
        "accuracy": record.final_accuracy,
        "macs": record.macs,
        "num_params": record.num_params,
        "seconds": record.seconds,
    }
