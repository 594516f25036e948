"""A training step of a pipeline: networks that the file describes, or that a search before it found."""

from pathlib import Path
from typing import Any

from common.experiment.config import UsageError
from common.experiment.files import read_json
from common.experiment.parallel import Job, map_resumable
from mfkd.fields import Fields, read_mapping
from mfkd.images import check_classes, open_images
from mfkd.models import Model, read_model
from mfkd.pipeline import TrainStep
from mfkd.training import Context, ModelJob, train_model

_DESCRIPTION = "desc_"


def train_models(step: TrainStep, context: Context) -> dict[str, Any]:
    """Train all networks of a step; those that are trained already are left as they are.

    Returns:
        Plain values for `result.json`.

    Raises:
        UsageError: there is no description of a network, or one has another number of classes than the dataset.
        ValueError, RuntimeError: see the trainer.
    """
    dataset = open_images(step.images, data_root=context.place.data_root, seed=context.place.data_seed)
    folder = context.folder_of(step.name)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {}
    for name, model in _models(step).items():
        check_classes({f"num_classes of model {name}": model.num_classes}, dataset.num_classes, dataset.name)
        jobs[name] = ModelJob(
            place=context.place, images=step.images, training=step.training, model=model, name=name, folder=folder
        )
    map_resumable(
        train_model,
        [Job(key=name, args=(job,)) for name, job in jobs.items()],
        done=lambda name: jobs[name].performance.exists(),
        store=lambda name, value: None,  # each job writes its own files
        backend=context.workers.backend,
        workers=context.workers.num,
        threads=context.workers.threads,
        description=step.name,
    )
    models = []
    for job in jobs.values():
        weights = str(job.weights.relative_to(context.folder))
        measured = read_json(job.performance)
        models.append({"name": job.name, **measured, "weights": weights, "model": job.model.description})
    return {
        "step": step.name,
        "kind": "train",
        "loss": step.training.recipe.loss,
        "seed": step.training.seed,
        "models": models,
    }


def _models(step: TrainStep) -> dict[str, Model]:
    """Networks by their ids."""
    if step.model is not None:
        return {"0": step.model}
    if step.model_file is not None:
        return {"0": _described(step.model_file)}
    assert step.models_folder is not None
    files = sorted(step.models_folder.glob(f"{_DESCRIPTION}*.json"))
    if not files:
        raise UsageError(f"{step.name}: {step.models_folder} has no {_DESCRIPTION}<id>.json: run a search step first")
    return {file.stem.removeprefix(_DESCRIPTION): _described(file) for file in files}


def _described(file: Path) -> Model:
    fields = Fields(read_mapping(file), str(file), [])
    return read_model(fields)
