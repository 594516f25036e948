"""Jobs that train one network each: points of a search, and the networks that a pipeline ends with."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from common.data.tasks import Task
from common.experiment.config import digest, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_json
from common.experiment.seeds import derive_seed
from common.experiment.workers import Workers
from common.kd.guide import weights_digest
from common.kd.recipe import Recipe
from common.kd.trainer import train
from common.store.records import Record, RecordStore
from mfkd.evaluations import Fidelity
from mfkd.images import Images, final_task, open_images, search_task
from mfkd.models import Model, Space, load_into, model_at, save_model, teacher_of
from mfkd.recipes import Training


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where jobs work.

    Attributes:
        data_root: folder of the known datasets; None for the default.
        data_seed: of the test part of datasets that come without one.
        gpu: device.
        scratch: folder of unfinished trainings.
    """

    data_root: Path | None
    data_seed: int
    gpu: str
    scratch: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What the steps of one run share.

    Attributes:
        folder: of the run.
        place: where jobs work.
        workers: who does them.
        store: of all evaluations.
    """

    folder: Path
    place: Place
    workers: Workers
    store: RecordStore

    def folder_of(self, step: str) -> Path:
        """Where a step writes."""
        return self.folder / "output" / step


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all evaluations of a search step share.

    Attributes:
        place: where they are done.
        images: on what.
        space: of which networks.
        training: how.
        fidelity: of the step; a part of every seed.
        teacher: digest of the teacher's weights; None without one.
    """

    place: Place
    images: Images
    space: Space
    training: Training
    fidelity: Fidelity
    teacher: str | None

    @property
    def recipe(self) -> str:
        """Digest of what a result depends on beside images, architecture and seed."""
        parts = {"recipe": to_dict(self.training.recipe), "teacher": self.teacher, "fidelity": self.fidelity}
        return digest(parts | {"resolution": self.images.resolution})

    def training_macs(self, model: Model, task: Task) -> int:
        """Multiply-accumulates of a whole training, evaluation aside; an estimate that no other process disturbs.

        Forward and backward pass of an image count as three forward passes, the teacher's forward pass as one.
        """
        forward = 3 * model.cost(task.num_classes, task.resolution).macs
        if self.training.teacher is not None:
            forward += teacher_of(self.space).cost(task.num_classes, task.resolution).macs
        return forward * num_images_of(self.training.recipe, len(task.train))


@dataclass(frozen=True, kw_only=True)
class PointJob:
    """One point of a search."""

    setting: Setting
    point: int

    @property
    def key(self) -> str:
        """Stable name of the job."""
        return f"{self.setting.fidelity}/{self.point}"

    @property
    def checkpoint(self) -> Path:
        """State of the unfinished training."""
        name = f"{self.setting.recipe}-{self.key.replace('/', '-')}.pt"
        return self.setting.place.scratch / name


@dataclass(frozen=True, kw_only=True)
class ModelJob:
    """One network to train and keep.

    Attributes:
        place: where.
        images: on what.
        training: how.
        model: which network.
        name: its id in the names of the files.
        folder: where they are written: `model_<name>.safetensors`, and last `performance_<name>.json`.
    """

    place: Place
    images: Images
    training: Training
    model: Model
    name: str
    folder: Path

    @property
    def weights(self) -> Path:
        """File of the trained weights."""
        return self.folder / f"model_{self.name}.safetensors"

    @property
    def performance(self) -> Path:
        """File of the measures, which says that the job is done."""
        return self.folder / f"performance_{self.name}.json"


def train_point(job: PointJob) -> Record:
    """Train one point from a seed that depends on seed, point and fidelity alone.

    Returns:
        The record, whose final accuracy is what the search goes by.
    """
    setting, place = job.setting, job.setting.place
    task = task_of(setting.images, place)
    model = model_at(setting.space, job.point)
    recipe, seed = setting.training.recipe, derive_seed(setting.training.seed, setting.fidelity, job.point)
    outcome = train(
        [model.build(task.num_classes, task.resolution, seed)],
        task,
        recipe,
        device=resolve_device(place.gpu),
        seed=seed,
        teacher=teacher_network(setting.space, setting.training, task),
        checkpoint=job.checkpoint,
        description=job.key,
    )[0]
    cost = model.cost(task.num_classes, task.resolution)
    return Record(
        task=task.id,
        space=setting.space.name,
        architecture=model.text,
        recipe=setting.recipe,
        seed=setting.training.seed,
        best_accuracy=outcome.best_accuracy,
        final_accuracy=outcome.final_accuracy,
        initial_accuracy=outcome.initial_accuracy,
        final_loss=outcome.final_loss,
        num_params=cost.num_params,
        macs=cost.macs,
        seconds=outcome.seconds,
    )


def train_model(job: ModelJob) -> None:
    """Train a network, keep its last weights, and write what was measured on the test images."""
    dataset = open_images(job.images, data_root=job.place.data_root, seed=job.place.data_seed)
    task = final_task(job.images, dataset)
    seed = derive_seed(job.training.seed, "model", job.model.text)
    network = job.model.build(task.num_classes, task.resolution, seed)
    checkpoint = job.place.scratch / f"model-{job.folder.name}-{job.name}.pt"
    outcome = train(
        [network],
        task,
        job.training.recipe,
        device=resolve_device(job.place.gpu),
        seed=seed,
        teacher=teacher_network(job.model.space, job.training, task),
        checkpoint=checkpoint,
        description=f"model {job.name}",
    )[0]
    measured: dict[str, Any] = {
        "architecture": job.model.text,
        "task": task.id,
        "description": task.description,
        "accuracy": outcome.final_accuracy,
        "best_accuracy": outcome.best_accuracy,
        "initial_accuracy": outcome.initial_accuracy,
        "seconds": outcome.seconds,
        **asdict(job.model.cost(task.num_classes, task.resolution)),
        "curve": outcome.curve,
    }
    notes = {"accuracy": outcome.final_accuracy, "task": task.id, "class_names": list(task.class_names)}
    save_model(job.weights, network.cpu(), job.model, notes)
    write_json(job.performance, measured)
    checkpoint.unlink(missing_ok=True)


def num_images_of(recipe: Recipe, num_train: int) -> int:
    """Images that a training draws in all: whole batches of every epoch."""
    epoch = num_train if recipe.epoch_images is None else min(num_train, recipe.epoch_images)
    return recipe.epochs * (epoch // recipe.batch_size * recipe.batch_size)


def task_of(images: Images, place: Place) -> Task:
    """The task of a search."""
    return search_task(images, open_images(images, data_root=place.data_root, seed=place.data_seed))


def teacher_network(space: Space, training: Training, task: Task) -> nn.Module | None:
    """The teacher in eval mode and without gradients, on the CPU; None for a loss without one.

    Raises:
        FileNotFoundError: its file is not there.
        RuntimeError: the file does not hold the default network of the space.
    """
    if training.teacher is None:
        return None
    return _teacher(Path(training.teacher).expanduser(), space, task.num_classes, task.resolution)


@lru_cache(maxsize=1)
def _teacher(file: Path, space: Space, num_classes: int, resolution: int) -> nn.Module:
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no teacher {file}: train one with `python -m mfkd train-teacher FILE`, or change trainer.teacher"
        )
    model = teacher_of(space)
    network = load_into(model.build(num_classes, resolution, 0), file, f"the teacher {model.text}")
    return network.requires_grad_(False).eval()


def teacher_digest(space: Space, training: Training, task: Task) -> str | None:
    """Digest of the teacher's weights, None without a teacher; errors as `teacher_network`."""
    teacher = teacher_network(space, training, task)
    return None if teacher is None else weights_digest(teacher)
