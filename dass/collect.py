"""Step `collect`: a teacher for each task, students distilled from it, and their embeddings - the meta-database.

Source: Lee et al., ICLR 2023; the released code only offers the finished files.
"""

import logging
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from common.data.tasks import open_task, task_id
from common.experiment.config import StepConfig, UsageError, digest, to_dict
from common.experiment.device import resolve_device
from common.experiment.names import slug
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import open_run
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.kd.remap import RemapKind
from common.spaces.resnet import ResNetArch, ResNetSpace
from common.store.records import Record, RecordStore
from dass.database import TaskTable, load_database, save_table
from dass.networks import TrainedNetwork, load_network
from dass.probe import embed, make_probe
from dass.students import PoolJob, distil_missing, draw_pool, recipe_digest
from dass.teachers import TINY_IMAGENET_TEACHER_RECIPE, fit_teacher

_LOG = logging.getLogger(__name__)

_PRODUCTS = ("teachers", "scratch", "database", "records.sqlite*")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How many students of a task are distilled, and how."""

    num_students: int = 100
    """Students of each task."""
    seeds: tuple[int, ...] = (0,)
    """Distillations of each student; their mean is the label, and how far they agree is the noise of it."""
    lock_step: int = 1
    """Students that one job trains together over shared batches, with one teacher forward for all of them."""
    pr_type: RemapKind = "copy_paste_first"
    """How a student takes over the teacher's weights."""
    recipe: Recipe = field(default_factory=Recipe)
    """The distillation."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num_students < 2 or self.lock_step < 1 or not self.seeds:
            raise ValueError(
                f"num_students {self.num_students}, lock_step {self.lock_step}, seeds {self.seeds}: "
                "at least 2 students, 1 in lock-step, 1 seed"
            )
        if self.pr_type == "random_init":
            raise ValueError("pr_type random_init: students of a database must take over weights, or have no embedding")


@dataclass(frozen=True, kw_only=True)
class CollectConfig(StepConfig):
    """Make the meta-training database: for each task a teacher, distilled students and their embeddings."""

    tasks: tuple[str, ...] = tuple(f"tiny_imagenet/{split}" for split in range(10))
    """Tasks: names, folders, splits (`tiny_imagenet/3`) or classes of a set (`cifar100/0-19`)."""
    resolution: int = 64
    """Side of the images, divisible by 8."""
    space: ResNetSpace = field(default_factory=ResNetSpace)
    """The teacher's widths and depth, which bound the students."""
    teacher_recipe: Recipe = TINY_IMAGENET_TEACHER_RECIPE
    """Training of the teachers."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """The students."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""


@dataclass(frozen=True, kw_only=True)
class _TeacherJob:
    """One teacher to train."""

    task: str
    data_root: Path | None
    resolution: int
    space: ResNetSpace
    recipe: Recipe
    seed: int
    gpu: str
    file: Path


def collect(cfg: CollectConfig) -> None:
    """Run the step."""
    _check_tasks(cfg)
    folder = cfg.out or Path("exp/dass/collect/database")
    with open_run(folder, program="dass", step="collect", config=cfg, products=_PRODUCTS) as run:
        if run.result is None:
            print(f"{len(cfg.tasks)} tasks, {cfg.pool.num_students} students of each, into {folder}")
            teachers = _train_teachers(cfg, folder / "teachers")
            summaries = {}
            for task in cfg.tasks:
                table = collect_task(task, teachers[task], cfg.space, cfg.pool, cfg.workers, cfg=cfg, folder=folder)
                save_table(folder / "database" / f"{slug(table.task)}.safetensors", table)
                summaries[table.task] = _summary(table)
            run.finish({"tasks": summaries})
        else:
            print(f"{folder} is finished; --restart collects anew")
        assert run.result is not None
        for task, summary in run.result["tasks"].items():
            print(
                f"{task}: teacher {100 * summary['teacher']:.2f} %, students mean {100 * summary['mean']:.2f} % "
                f"best {100 * summary['best']:.2f} %"
            )
        print(f"database: {folder / 'database'}\nnext: python -m dass meta-train --database {folder / 'database'}")


def collect_task(
    task: str,
    teacher_file: Path,
    space: ResNetSpace,
    pool: PoolConfig,
    workers: Workers,
    *,
    cfg: StepConfig,
    folder: Path,
    exclude: Collection[ResNetArch] = (),
) -> TaskTable:
    """Distil a pool of students of one task and put together all that is known of them.

    Args:
        task: what `open_task` takes.
        teacher_file: file of the task's teacher.
        space: the students' space.
        pool: how many students, and how they are distilled.
        workers: who does it.
        cfg: data root, seed and device.
        folder: results are kept here as they arrive (`records.sqlite`), unfinished trainings in `scratch/`.
        exclude: architectures that the pool must not hold.
    """
    teacher = load_network(teacher_file)
    archs = draw_pool(space, pool.num_students, seed=cfg.seed, task=task, exclude=exclude)
    texts = [space.format(arch) for arch in archs]
    jobs = [
        PoolJob(
            task=task,
            data_root=cfg.data_root,
            data_seed=cfg.seed,
            resolution=teacher.resolution,
            teacher=teacher_file,
            space=space,
            archs=tuple(texts[start : start + pool.lock_step]),
            recipe=pool.recipe,
            pr_type=pool.pr_type,
            seed=seed,
            gpu=cfg.gpu,
            scratch=folder / "scratch",
        )
        for seed in pool.seeds
        for start in range(0, len(texts), pool.lock_step)
    ]
    with RecordStore(folder / "records.sqlite") as store:
        distil_missing(jobs, store, workers, description=f"students of {task}")
        found = {
            (record.architecture, record.seed): record
            for record in store.select(task=teacher.task, recipe=recipe_digest(pool.recipe, pool.pr_type, teacher))
        }
    records = [[found[text, seed] for seed in pool.seeds] for text in texts]
    return _table(teacher, space, archs, records, pool, device=resolve_device(cfg.gpu))


def _check_tasks(cfg: CollectConfig) -> None:
    """Find every task before the first training.

    Raises:
        UsageError: two tasks have one id, and so would share a table.
        FileNotFoundError, ValueError: as `open_task`.
    """
    names: dict[str, str] = {}
    for name in cfg.tasks:
        task = task_id(name, data_root=cfg.data_root)
        if task in names:
            raise UsageError(f"tasks {names[task]} and {name} are both {task}: rename one of the folders, or drop one")
        names[task] = name


def _train_teachers(cfg: CollectConfig, folder: Path) -> dict[str, Path]:
    """Teacher files by task; the missing ones are trained."""
    files = {task: folder / f"{slug(task)}.safetensors" for task in cfg.tasks}
    jobs = [
        Job(
            key=task,
            args=(
                _TeacherJob(
                    task=task,
                    data_root=cfg.data_root,
                    resolution=cfg.resolution,
                    space=cfg.space,
                    recipe=cfg.teacher_recipe,
                    seed=cfg.seed,
                    gpu=cfg.gpu,
                    file=file,
                ),
            ),
        )
        for task, file in files.items()
    ]
    map_resumable(
        _train_teacher,
        jobs,
        done=lambda task: files[task].exists(),
        store=lambda task, accuracy: _LOG.info("teacher of %s: %.2f %%", task, 100 * accuracy),
        backend=cfg.workers.backend,
        workers=cfg.workers.num,
        threads=cfg.workers.threads,
        description="teachers",
    )
    return files


def _train_teacher(job: _TeacherJob) -> float:
    task = open_task(job.task, resolution=job.resolution, data_root=job.data_root, seed=job.seed)
    state = job.file.with_suffix(".unfinished.pt")
    teacher, _ = fit_teacher(
        task,
        job.space,
        job.recipe,
        seed=job.seed,
        device=resolve_device(job.gpu),
        file=job.file,
        checkpoint=state,
    )
    state.unlink(missing_ok=True)
    return teacher.best_accuracy


def _table(
    teacher: TrainedNetwork,
    space: ResNetSpace,
    archs: Sequence[ResNetArch],
    records: Sequence[Sequence[Record]],
    pool: PoolConfig,
    *,
    device: torch.device,
) -> TaskTable:
    """Embeddings and labels of one task; times are left to the record store, so equal runs give equal tables."""
    probe = make_probe(teacher.resolution).to(device)
    state = {name: value.to(device) for name, value in teacher.network.state_dict().items()}
    maps = embed(state, teacher.arch, [teacher.arch, *archs], probe, pool.pr_type).cpu()

    def mean(name: str) -> torch.Tensor:
        return torch.tensor([[getattr(record, name) for record in row] for row in records]).mean(1)

    return TaskTable(
        task=teacher.task,
        description=teacher.description,
        space_name=space.code_name,
        resolution=teacher.resolution,
        num_classes=teacher.num_classes,
        actmap=maps[1:],
        arch_enc=space.encode(archs),
        architectures=tuple(space.format(arch) for arch in archs),
        best_accuracy=mean("best_accuracy"),
        final_accuracy=mean("final_accuracy"),
        initial_accuracy=mean("initial_accuracy"),
        final_loss=mean("final_loss"),
        num_params=torch.tensor([row[0].num_params for row in records]),
        macs=torch.tensor([row[0].macs for row in records]),
        seed_best_accuracy=torch.tensor([[record.best_accuracy for record in row] for row in records]),
        teacher_actmap=maps[:1],
        teacher_enc=space.encode([teacher.arch]),
        teacher_best_accuracy=teacher.best_accuracy,
        teacher_final_accuracy=teacher.final_accuracy,
        teacher_initial_accuracy=teacher.initial_accuracy,
        probe=probe.cpu(),
        meta={
            "unit": "fraction",
            "origin": "dass",
            "pr_type": pool.pr_type,
            "recipe": to_dict(pool.recipe),
            "recipe_digest": digest(pool.recipe),
            "seeds": list(pool.seeds),
            "teacher": teacher.notes,
            "torch": torch.__version__.partition("+")[0],
            "python": platform.python_version(),
        },
    )


def _summary(table: TaskTable) -> dict[str, float]:
    return {
        "teacher": table.teacher_best_accuracy,
        "mean": float(table.best_accuracy.mean()),
        "best": float(table.best_accuracy.max()),
        "std": float(table.best_accuracy.std()),
    }


def architectures_of(database: Path, space: ResNetSpace) -> set[ResNetArch]:
    """All students of a database, which a test must not share."""
    return {space.parse(text) for table in load_database(database).values() for text in table.architectures}
