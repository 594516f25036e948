"""Distil students from their teacher: single jobs that any process can do, and whole pools of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from common.data.tasks import Task, open_task
from common.experiment.config import digest
from common.experiment.device import resolve_device
from common.experiment.names import slug
from common.experiment.parallel import Job, map_resumable
from common.experiment.seeds import generator
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.kd.remap import RemapKind, remap
from common.kd.trainer import train
from common.spaces.resnet import ResNetArch, ResNetSpace
from common.spaces.sampling import sample_distinct
from common.store.records import Record, RecordStore
from dass.networks import TrainedNetwork, load_network


@dataclass(frozen=True, kw_only=True)
class PoolJob:
    """Students of one task that are distilled in lock-step over shared batches, from one seed."""

    task: str
    data_root: Path | None
    data_seed: int
    resolution: int
    teacher: Path
    space: ResNetSpace
    archs: tuple[str, ...]
    recipe: Recipe
    pr_type: RemapKind
    seed: int
    gpu: str
    scratch: Path
    """Folder of unfinished training states and of the teacher's cached outputs."""

    @property
    def key(self) -> str:
        """Stable name of the job."""
        return f"{slug(self.task)}-{digest({'archs': list(self.archs)})}-seed{self.seed}"


def distil_pool(job: PoolJob) -> list[Record]:
    """Do one job; an interrupted one goes on where it stopped."""
    task = _task(job.task, job.resolution, job.data_root, job.data_seed)
    teacher = _teacher(job.teacher)
    archs = [job.space.parse(text) for text in job.archs]
    networks = [new_student(teacher, job.space, arch, job.pr_type, job.seed) for arch in archs]
    state = job.scratch / f"{job.key}.pt"
    outcomes = train(
        networks,
        task,
        job.recipe,
        device=resolve_device(job.gpu),
        seed=job.seed,
        teacher=teacher.network,
        checkpoint=state,
        description=f"{job.task} x{len(archs)}",
        teacher_cache=job.scratch / f"{slug(job.task)}-seed{job.seed}-teacher.safetensors"
        if job.recipe.views
        else None,
    )
    records = []
    for arch, text, outcome in zip(archs, job.archs, outcomes, strict=True):
        cost = job.space.cost(arch, task.num_classes, task.resolution)
        records.append(
            Record(
                task=task.id,
                space=job.space.name,
                architecture=text,
                recipe=recipe_digest(job.recipe, job.pr_type, teacher),
                seed=job.seed,
                best_accuracy=outcome.best_accuracy,
                final_accuracy=outcome.final_accuracy,
                initial_accuracy=outcome.initial_accuracy,
                final_loss=outcome.final_loss,
                num_params=cost.num_params,
                macs=cost.macs,
                seconds=outcome.seconds,
            )
        )
    return records


def new_student(
    teacher: TrainedNetwork, space: ResNetSpace, arch: ResNetArch, pr_type: RemapKind, seed: int
) -> nn.Module:
    """A student of the teacher's classes with the teacher's weights; what is not taken over is drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = space.build(arch, teacher.num_classes, teacher.resolution)
    remap(teacher.network.state_dict(), teacher.arch, network, arch, pr_type)
    return network


def recipe_digest(recipe: Recipe, pr_type: RemapKind, teacher: TrainedNetwork) -> str:
    """What a record's result depends on beside task, architecture and seed: recipe, remapping and teacher."""
    return digest({"recipe": digest(recipe), "pr_type": pr_type, "teacher": teacher.digest})


def draw_pool(
    space: ResNetSpace, num: int, *, seed: int, task: str, exclude: Collection[ResNetArch] = ()
) -> list[ResNetArch]:
    """Distinct students of one task; every task has a pool of its own.

    Raises:
        ValueError: the space has fewer architectures than asked for.
    """
    archs = sample_distinct(space, num, generator(seed, "pool", task), exclude=exclude)
    if len(archs) < num:
        raise ValueError(f"only {len(archs)} of {num} distinct students were found in {space.name}: ask for fewer")
    return archs


def distil_missing(jobs: Sequence[PoolJob], store: RecordStore, workers: Workers, description: str) -> int:
    """Do the jobs whose records are not all in the store; results enter it as they arrive.

    Returns:
        Number of jobs done now.
    """
    by_key = {job.key: job for job in jobs}

    def done(key: str) -> bool:
        job = by_key[key]
        teacher = _teacher(job.teacher)
        recipe = recipe_digest(job.recipe, job.pr_type, teacher)
        return all(
            store.has(task=teacher.task, space=job.space.name, architecture=text, recipe=recipe, seed=job.seed)
            for text in job.archs
        )

    def keep(key: str, records: list[Record]) -> None:
        for record in records:
            store.add(record)
        (by_key[key].scratch / f"{key}.pt").unlink(missing_ok=True)

    return map_resumable(
        distil_pool,
        [Job(key=key, args=(job,)) for key, job in by_key.items()],
        done=done,
        store=keep,
        backend=workers.backend,
        workers=workers.num,
        threads=workers.threads,
        description=description,
    )


@lru_cache(maxsize=1)
def _task(text: str, resolution: int, data_root: Path | None, seed: int) -> Task:
    """The task of the last job in this process: the next one is most often of the same task."""
    return open_task(text, resolution=resolution, data_root=data_root, seed=seed)


@lru_cache(maxsize=16)
def _teacher(path: Path) -> TrainedNetwork:
    return load_network(path)
