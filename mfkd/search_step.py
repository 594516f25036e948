"""A search step of a pipeline: an algorithm over networks that are really trained, and the files that it leaves.

Source: Trofimov et al., arXiv 2006.08341; released code for Vega (files that a step leaves).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.experiment.config import UsageError
from common.experiment.files import write_json
from mfkd.acquisition import Choice
from mfkd.algorithms import mf_kd, mfkd1, mfkd2_step
from mfkd.config import Mfkd1Config, MfKdConfig
from mfkd.domain import ProductDomain
from mfkd.evaluations import Evaluation, Fidelity
from mfkd.outputs import Evaluated, write_tables
from mfkd.pipeline import SearchStep
from mfkd.point_evaluations import PointEvaluations, setting_of
from mfkd.surrogate import held_out_predictions
from mfkd.training import Context, Setting


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
        fidelity: of the step's evaluations; co-kriging has both.
        context: of the run; evaluations that are in its store are not made again.
        start: winner of the search step before, from which algorithm 2 begins.

    Raises:
        UsageError: the step before searched another space.
        ValueError, RuntimeError: see `mfkd1`, `mfkd2_step`, `mf_kd` and the trainer.
    """
    evaluations = PointEvaluations(step.name, _settings(step, fidelity, context), context, _num_planned(step))
    domain = ProductDomain(tuple(levels.numpy() for levels in step.space.grid.scaled_levels))
    if isinstance(step.algorithm, Mfkd1Config):
        predicted = mfkd1(domain, evaluations, step.algorithm)
        return _finish(step, evaluations, domain, predicted.evaluations, predicted.choice)
    if isinstance(step.algorithm, MfKdConfig):
        winner = mf_kd(domain, evaluations, step.algorithm)
        return _finish(step, evaluations, domain, winner.evaluations, winner.best)
    if start is not None and start.space != step.space.name:
        raise UsageError(f"{step.name} starts from the winner of a step that searched another space: write one space")
    first = None if start is None else start.point
    winner = mfkd2_step(domain, evaluations, fidelity, step.algorithm, start=first)
    return _finish(step, evaluations, domain, winner.evaluations, winner.best)


def _settings(step: SearchStep, fidelity: Fidelity, context: Context) -> dict[Fidelity, Setting]:
    settings = {fidelity: setting_of(step.space, step.images, step.training, fidelity, context)}
    if step.high is not None:
        settings["high"] = setting_of(step.space, step.high.images, step.high.training, "high", context)
    return settings


def _num_planned(step: SearchStep) -> int | None:
    """Co-kriging may find a proposal among its low-fidelity points, so its number is open."""
    return None if isinstance(step.algorithm, MfKdConfig) else step.algorithm.max_samples


def _finish(
    step: SearchStep,
    evaluations: PointEvaluations,
    domain: ProductDomain,
    made: Sequence[Evaluation],
    winner: Evaluation | Choice,
) -> Found:
    context, space = evaluations.context, step.space
    folder = context.folder_of(step.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        Evaluated(
            point=one.point,
            fidelity=one.fidelity,
            record=evaluations.record(one.point, one.fidelity),
            description=evaluations.model(one.point).description,
        )
        for one in made
    ]
    fronts = write_tables(folder, rows)
    description = evaluations.model(winner.point).description
    write_json(folder / f"desc_{winner.point}.json", description)
    write_json(context.folder / "best_model_desc.json", description)
    write_json(context.folder / "best_model", {"space": space.name, "index": winner.point})
    held_out = held_out_predictions(domain, made, step.algorithm)
    result = {
        **_described(step, evaluations),
        "num_evaluations": len(made),
        "seconds": sum(row.record.seconds for row in rows),
        "training_macs": sum(evaluations.training_macs(one.point, one.fidelity) for one in made),
        "winner": _winner(evaluations, winner, made),
        "evaluations": [
            {**_plain(row), "held_out": None if found is None else {"mean": found[0], "std": found[1]}}
            for row, found in zip(rows, held_out, strict=True)
        ],
        "pareto_front": [rows[row].point for row in fronts],
    }
    return Found(space=space.name, point=winner.point, result=result)


def _described(step: SearchStep, evaluations: PointEvaluations) -> dict[str, Any]:
    """What was searched, how."""
    algorithm = {Mfkd1Config: "MFKD1", MfKdConfig: "MF-KD"}.get(type(step.algorithm), "MFKD2")
    return {
        "step": step.name,
        "kind": "search",
        "algorithm": algorithm,
        "fidelity": " and ".join(evaluations.settings),
        "loss": step.training.recipe.loss,
        "task": evaluations.task.id,
        "description": evaluations.task.description,
        "space": step.space.name,
        "num_points": step.space.size(),
    }


def _winner(evaluations: PointEvaluations, winner: Evaluation | Choice, made: Sequence[Evaluation]) -> dict[str, Any]:
    """The winner; one that was only predicted has no accuracy."""
    model = evaluations.model(winner.point)
    cost = model.cost(evaluations.task.num_classes, evaluations.task.resolution)
    described = {"index": winner.point, "architecture": model.text, **asdict(cost), "model": model.description}
    if isinstance(winner, Evaluation):
        return {**described, "accuracy": winner.accuracy, "prediction": None}
    accuracy = next((one.accuracy for one in made if one.point == winner.point), None)
    return {**described, "accuracy": accuracy, "prediction": {"mean": winner.mean, "std": winner.std}}


def _plain(row: Evaluated) -> dict[str, Any]:
    record = row.record
    return {
        "index": row.point,
        "fidelity": row.fidelity,
        "architecture": record.architecture,
        "accuracy": record.final_accuracy,
        "macs": record.macs,
        "num_params": record.num_params,
        "seconds": record.seconds,
    }
