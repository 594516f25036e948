"""The parts of building a zoo that workers do: train a supernet, cut networks out of it and measure them.

Source: Jeong et al., NeurIPS 2021 (a supernet for each dataset, networks cut out of it); the released code has no
part of this, so the details are ours.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from common.data.tasks import Task, open_task
from common.experiment.config import digest
from common.experiment.device import resolve_device
from common.experiment.seeds import derive_seed, generator
from common.kd.evaluate import predict
from common.kd.recipe import Recipe
from common.spaces.mobilenet_v3 import MobileNetV3Space
from common.spaces.mobilenet_v3_supernet import MobileNetV3Supernet
from common.supernet import (
    Shrinking,
    StoredSupernet,
    calibration_images,
    cut_subnet,
    load_supernet,
    save_supernet,
    train_supernet,
    with_new_head,
)
from tans.networks import functional_embedding, norms_of, put_norms
from tans.zoo_tables import NetworkRow, SupernetRow, canonical_key, file_stem
from tans.zoo_verify import file_sha256


@dataclass(frozen=True, kw_only=True)
class SupernetTraining:
    """How a supernet is trained."""

    recipe: Recipe
    """The training; its loss is that of networks that learn from no larger one."""
    shrinking: Shrinking = field(default_factory=Shrinking)
    """Which of its networks train in a step."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a job finds images and computes."""

    data_root: Path | None
    resolution: int
    seed: int
    gpu: str


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How networks are measured."""

    num_calibration: int = 512
    """Training images that statistics of batch normalisation are estimated on."""
    max_evaluated: int | None = None
    """Held-out images of a source that accuracies are measured on; none means all."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num_calibration < 1:
            raise ValueError(f"num_calibration is {self.num_calibration}; it must be at least 1")
        if self.max_evaluated is not None and self.max_evaluated < 1:
            raise ValueError(f"max_evaluated is {self.max_evaluated}; it must be at least 1, or none for all")


@dataclass(frozen=True, kw_only=True)
class BaseJob:
    """Train the supernet that all others begin with, on the images of all sources together."""

    sources: tuple[str, ...]
    place: Place
    space: MobileNetV3Space
    training: SupernetTraining
    num_calibration: int
    file: Path
    state: Path


@dataclass(frozen=True, kw_only=True)
class SupernetJob:
    """Train the supernet of a source from the base."""

    source: str
    place: Place
    training: SupernetTraining
    num_calibration: int
    base: Path
    zoo: Path
    is_half: bool
    state: Path


@dataclass(frozen=True, kw_only=True)
class NetworksJob:
    """Cut networks out of a source's supernet and measure them."""

    source: str
    dataset: str
    supernet: SupernetRow
    place: Place
    topologies: tuple[tuple[int, ...], ...]
    zoo: Path
    probe: Tensor
    measuring: Measuring
    is_half: bool
    round: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Networks with what was measured on them."""

    rows: list[NetworkRow]
    functional: Tensor
    norms: list[bytes | None]


def merged_task(tasks: Sequence[Task]) -> Task:
    """One task of the images and classes of several, of one resolution."""
    labels, train, evaluation, names = list[Tensor](), list[Tensor](), list[Tensor](), list[str]()
    num_images = 0
    for task in tasks:
        labels.append(task.labels + len(names))
        train.append(task.train + num_images)
        evaluation.append(task.evaluation + num_images)
        names += [f"{task.id}: {name}" for name in task.class_names]
        num_images += len(task.images)
    return Task(
        id="+".join(task.id for task in tasks),
        description=f"{len(tasks)} sets together",
        images=torch.cat([task.images for task in tasks]),
        labels=torch.cat(labels),
        class_names=tuple(names),
        train=torch.cat(train),
        evaluation=torch.cat(evaluation),
        flip=all(task.flip for task in tasks),
        seed=tasks[0].seed,
    )


@lru_cache(maxsize=2)
def _task(source: str, place: Place) -> Task:
    """The last tasks stay decoded: neighbouring jobs are of the same one."""
    return open_task(source, resolution=place.resolution, data_root=place.data_root, seed=place.seed)


def train_base(job: BaseJob) -> float:
    """Train the base supernet and write its file; returns the accuracy of its largest network on all sources."""
    tasks = [open_task(name, resolution=job.place.resolution, data_root=job.place.data_root) for name in job.sources]
    task = tasks[0] if len(tasks) == 1 else merged_task(tasks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(job.place.seed, "base"))
        supernet = MobileNetV3Supernet(job.space.plan, task.num_classes)
    accuracy = _train(supernet, task, job, "base supernet")
    _save(job.file, supernet, task, job.sources, job.training, is_half=False)
    job.state.unlink(missing_ok=True)
    return accuracy


def _train(supernet: MobileNetV3Supernet, task: Task, job: BaseJob | SupernetJob, description: str) -> float:
    """Train a supernet in place and leave it on the CPU; returns the accuracy of its largest network."""
    outcome = train_supernet(
        supernet,
        task,
        job.training.recipe,
        job.training.shrinking,
        device=resolve_device(job.place.gpu),
        seed=derive_seed(job.place.seed, "supernet", task.id),
        checkpoint=job.state,
        description=description,
        num_calibration=job.num_calibration,
    )
    supernet.cpu()
    return outcome.final_accuracy


def _save(
    file: Path,
    supernet: MobileNetV3Supernet,
    task: Task,
    sources: Sequence[str],
    training: SupernetTraining,
    *,
    is_half: bool,
) -> None:
    stored = StoredSupernet(
        supernet=supernet.eval(),
        class_names=task.class_names,
        resolution=task.resolution,
        sources=tuple(sources),
        notes={"recipe": asdict(training.recipe), "shrinking": asdict(training.shrinking)},
    )
    save_supernet(file, stored, is_half=is_half)


def train_source(job: SupernetJob) -> SupernetRow:
    """Train a source's supernet and write its file into the zoo's folder.

    The id stands for the base, the training and the seed, so that other builders of the zoo with other ones write
    other files.
    """
    task, base = _task(job.source, job.place), load_supernet(job.base).supernet
    seed = derive_seed(job.place.seed, "supernet", task.id)
    supernet = with_new_head(base, task.num_classes, seed=seed)
    accuracy = _train(supernet, task, job, task.id)
    about = {"base": file_sha256(job.base), "seed": job.place.seed, "half": job.is_half, **asdict(job.training)}
    name = f"{file_stem(task.id)}-{digest(about)}"
    file = Path("supernets", f"{name}.safetensors")
    _save(job.zoo / file, supernet, task, [task.id], job.training, is_half=job.is_half)
    return SupernetRow(
        id=name,
        dataset=task.id,
        width_mult=supernet.plan.width_mult,
        num_classes=task.num_classes,
        file=str(file),
        sha256=file_sha256(job.zoo / file),
        training=about,
        largest_accuracy=accuracy,
    )


def measure_networks(job: NetworksJob) -> Measured:
    """Cut, estimate statistics anew, and measure: accuracy on held-out images, cost, answer to the probe.

    What is measured is what the zoo's files give back: weights and statistics are rounded as they are stored first.
    """
    device = resolve_device(job.place.gpu)
    stored = _supernet(job.zoo / job.supernet.file)
    task = _evaluated(_task(job.source, job.place), job)
    calibration = calibration_images(
        task, job.measuring.num_calibration, seed=derive_seed(job.place.seed, job.dataset), device=device
    )
    supernet, plan = stored.supernet.to(device), stored.supernet.plan
    space = MobileNetV3Space(width_mult=plan.width_mult, first_stride=plan.first_stride)
    topologies = torch.tensor(job.topologies)
    labels = task.labels[task.evaluation]
    rows, vectors, contents = list[NetworkRow](), list[Tensor](), list[bytes | None]()
    for arch, topology, key in zip(
        space.from_topologies(topologies), job.topologies, canonical_key(topologies), strict=True
    ):
        network = cut_subnet(supernet, arch, calibration)
        contents.append(norms_of(network, is_half=job.is_half))
        put_norms(network, contents[-1] or b"")
        logits = predict(network, task.images, task.evaluation, device=device)
        cost = space.cost(arch, task.num_classes, job.place.resolution)
        rows.append(
            NetworkRow(
                dataset=job.dataset,
                supernet=job.supernet.id,
                topology=topology,
                key=key,
                num_params=cost.num_params - (plan.mix + 1) * task.num_classes,
                macs=cost.macs - plan.mix * task.num_classes,
                feature_dim=plan.mix,
                accuracy=float((logits.argmax(1).cpu() == labels).double().mean()),
                num_evaluated=len(labels),
                is_recalibrated=True,
                round=job.round,
                seed=job.place.seed,
            )
        )
        network.cpu().to(memory_format=torch.contiguous_format)  # as it will be when it is loaded
        vectors.append(functional_embedding(network, job.probe))
    return Measured(rows=rows, functional=torch.stack(vectors), norms=contents)


def _evaluated(task: Task, job: NetworksJob) -> Task:
    """The task with so many of its held-out images, the same for all networks."""
    num = job.measuring.max_evaluated
    if num is None or num >= len(task.evaluation):
        return task
    order = torch.randperm(len(task.evaluation), generator=generator(job.place.seed, "evaluated", task.id))
    return replace(task, evaluation=task.evaluation[order[:num].sort().values])


@lru_cache(maxsize=1)
def _supernet(file: Path) -> StoredSupernet:
    return load_supernet(file)
