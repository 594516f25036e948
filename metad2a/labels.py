"""Labels of (task, cell): from the benchmark's table, or by training the cell on the task.

Source: Lee et al., ICLR 2021 trained a cell on each task; the table stands in for hundreds of GPU hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.data.open import resolve_root
from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, UsageError, digest
from common.experiment.device import resolve_device
from common.experiment.parallel import Job, map_resumable
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.kd.trainer import train
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_table import AccuracyTable, load_table
from common.store.records import Record, RecordStore
from metad2a.database import MetaTask
from metad2a.recipes import CELL_RECIPE
from metad2a.tasks import class_subset

TABLE_COLUMNS = {"cifar10": "cifar10", "cifar100": "cifar100", "tiny_imagenet": "imagenet16_120"}
"""Task id -> the table's dataset. ImageNet16-120 has other classes than Tiny ImageNet, and smaller images; it is the
nearest set that the table knows."""
PUBLISHED = ("cifar10", "cifar100", "mnist", "svhn", "aircraft", "pets")
"""Sets that the published search was tried on."""
TABLE_SPLIT, TABLE_EPOCHS = "test", 200
"""What labels are: only accuracies after 200 epochs compare with published ones."""


@dataclass(frozen=True, kw_only=True)
class CellTraining:
    """How cells are trained on a task to be its labels."""

    space: NasBench201Space = field(default_factory=NasBench201Space)
    """The networks around a cell."""
    resolution: int = 32
    """Side of the images, divisible by 4."""
    recipe: Recipe = CELL_RECIPE
    """The training."""
    seeds: tuple[int, ...] = (0,)
    """Trainings of each cell; their mean is the label."""
    lock_step: int = 1
    """Cells that one job trains together over shared batches."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.lock_step < 1 or not self.seeds:
            raise ValueError(f"lock_step {self.lock_step}, seeds {self.seeds}: at least 1 cell and 1 seed")


@dataclass(frozen=True, kw_only=True)
class _CellsJob:
    """Cells of one task that are trained in lock-step, from one seed."""

    task: MetaTask
    data_root: Path | None
    data_seed: int
    cells: tuple[Cell, ...]
    training: CellTraining
    seed: int
    gpu: str
    scratch: Path

    @property
    def key(self) -> str:
        """Stable name of the job."""
        cells = [list(cell.operations) for cell in self.cells]
        return f"{self.task.key}-{digest({'cells': cells})}-seed{self.seed}"


def column_of(source: str) -> str | None:
    """The table's dataset that stands for a task of this id, if there is one."""
    return TABLE_COLUMNS.get(source)


def table_of(data_root: Path | None) -> AccuracyTable:
    """The table of the data root.

    Raises:
        FileNotFoundError: there is none; the message says how to get it.
        ValueError: it is damaged or lacks rows.
    """
    return load_table(resolve_root(data_root))


def find_table(data_root: Path | None) -> AccuracyTable | None:
    """The table of the data root, or None where there is none; a damaged one is an error, as in `table_of`."""
    try:
        return table_of(data_root)
    except FileNotFoundError:
        return None


def check_table_knows(sources: Sequence[str]) -> None:
    """Refuse sets without labels in the table.

    Raises:
        UsageError: naming the first such set and those that have labels.
    """
    unknown = [name for name in sources if column_of(name) is None]
    if unknown:
        raise UsageError(
            f"the table has no labels for {unknown[0]}: it has them for {', '.join(TABLE_COLUMNS)}; --labels train "
            "trains cells instead"
        )


def table_labels(table: AccuracyTable, tasks: Sequence[MetaTask], cells: Mapping[MetaTask, Sequence[Cell]]) -> Tensor:
    """Accuracies of each task's cells on the whole set that the task is a part of, one after the other."""
    return torch.cat(
        [table.lookup(cells[task], TABLE_COLUMNS[task.source], TABLE_SPLIT, TABLE_EPOCHS) for task in tasks]
    )


def train_labels(
    tasks: Sequence[MetaTask],
    cells: Mapping[MetaTask, Sequence[Cell]],
    training: CellTraining,
    workers: Workers,
    *,
    cfg: StepConfig,
    folder: Path,
) -> Tensor:
    """Train every cell on its task; a mean over seeds of the accuracy after the last epoch is its label.

    Args:
        tasks: the tasks.
        cells: of each.
        training: how.
        workers: who trains.
        cfg: data root, seed and device.
        folder: records are kept here as they come (`records.sqlite`), unfinished trainings in `scratch/`.
    """
    jobs = [
        _CellsJob(
            task=task,
            data_root=cfg.data_root,
            data_seed=cfg.seed,
            cells=tuple(cells[task][start : start + training.lock_step]),
            training=training,
            seed=seed,
            gpu=cfg.gpu,
            scratch=folder / "scratch",
        )
        for task in tasks
        for seed in training.seeds
        for start in range(0, len(cells[task]), training.lock_step)
    ]
    with RecordStore(folder / "records.sqlite") as store:
        _train_missing(jobs, store, workers)
        found = {(record.task, record.architecture, record.seed): record for record in store.select(**_keys(training))}
    space = training.space
    return torch.tensor(
        [
            [found[task.id, space.format(cell), seed].final_accuracy for seed in training.seeds]
            for task in tasks
            for cell in cells[task]
        ]
    ).mean(1)


def _keys(training: CellTraining) -> dict[str, Any]:
    """What records of one way to train have in common."""
    recipe = digest({"recipe": digest(training.recipe), "resolution": training.resolution})
    return {"space": training.space.name, "recipe": recipe}


def _train_missing(jobs: Sequence[_CellsJob], store: RecordStore, workers: Workers) -> None:
    by_key = {job.key: job for job in jobs}

    def done(key: str) -> bool:
        job = by_key[key]
        keys = {"task": job.task.id, "seed": job.seed, **_keys(job.training)}
        return all(store.has(architecture=job.training.space.format(cell), **keys) for cell in job.cells)

    def keep(key: str, records: list[Record]) -> None:
        for record in records:
            store.add(record)
        (by_key[key].scratch / f"{key}.pt").unlink(missing_ok=True)

    map_resumable(
        _train_cells,
        [Job(key=key, args=(job,)) for key, job in by_key.items()],
        done=done,
        store=keep,
        backend=workers.backend,
        workers=workers.num,
        threads=workers.threads,
        description="cells",
    )


def _train_cells(job: _CellsJob) -> list[Record]:
    """Do one job; an interrupted one goes on where it stopped."""
    training, space = job.training, job.training.space
    whole = _source(job.task.source, training.resolution, job.data_root, job.data_seed)
    task = class_subset(whole, job.task.classes)
    networks = []
    for cell in job.cells:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            networks.append(space.build(cell, task.num_classes, task.resolution))
    outcomes = train(
        networks,
        task,
        training.recipe,
        device=resolve_device(job.gpu),
        seed=job.seed,
        checkpoint=job.scratch / f"{job.key}.pt",
        description=f"{job.task.source} x{len(networks)}",
    )
    return [
        Record(
            task=job.task.id,
            architecture=space.format(cell),
            seed=job.seed,
            best_accuracy=outcome.best_accuracy,
            final_accuracy=outcome.final_accuracy,
            initial_accuracy=outcome.initial_accuracy,
            final_loss=outcome.final_loss,
            seconds=outcome.seconds,
            **vars(space.cost(cell, task.num_classes, task.resolution)),
            **_keys(training),
        )
        for cell, outcome in zip(job.cells, outcomes, strict=True)
    ]


@lru_cache(maxsize=2)
def _source(text: str, resolution: int, data_root: Path | None, seed: int) -> Task:
    """The whole set of the last job in this process: the next one is most often of the same."""
    return open_task(text, resolution=resolution, data_root=data_root, seed=seed)
