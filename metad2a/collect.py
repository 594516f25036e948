"""Step `collect`: tasks of the source sets and labelled cells on each - the meta-database of generator and predictor.

Source: Lee et al., ICLR 2021; the released code offers the finished files only.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from common.data.tasks import plan_task
from common.experiment.config import StepConfig, UsageError, digest, to_dict
from common.experiment.names import slug
from common.experiment.run import open_run
from common.experiment.workers import Workers
from common.spaces.nasbench201 import NasBench201Space
from metad2a.database import MetaDatabase, save_database
from metad2a.labels import (
    TABLE_EPOCHS,
    TABLE_SPLIT,
    CellTraining,
    check_table_knows,
    table_labels,
    table_of,
    train_labels,
)
from metad2a.spaces import VIEWS
from metad2a.tasks import Drawing, cells_of, draw_cells, draw_tasks

FILE_NAME = "database.safetensors"
_PRODUCTS = (FILE_NAME, "records.sqlite*", "scratch")
_LIMIT = (
    "the label of a task is the accuracy on the whole set that its classes come from (for tiny_imagenet on "
    "ImageNet16-120), so tasks of one set share their labels"
)


@dataclass(frozen=True, kw_only=True)
class CollectConfig(StepConfig):
    """Make the meta-database: tasks of random classes of the source sets, and labelled cells on each."""

    sources: tuple[str, ...] = ("cifar100", "tiny_imagenet")
    """Sets to learn from: names or folders. A search on one of them is no search on an unseen dataset."""
    valid_sources: tuple[str, ...] = ()
    """Sets of the tasks that select; none given means the sources themselves."""
    drawing: Drawing = field(default_factory=Drawing)
    """Numbers of tasks, classes and cells."""
    labels: Literal["train", "table"] = "train"
    """train: train every cell on its task; table: the benchmark's accuracy after 200 epochs on the whole set."""
    training: CellTraining = field(default_factory=CellTraining)
    """How cells are trained."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.sources:
            raise ValueError("sources: give at least one set")


def collect(cfg: CollectConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: a set or, with labels from it, the table is not there.
        UsageError: the table does not know a set.
        ValueError: a set has too few classes for the tasks asked for.
    """
    sources, valid_sources = _classes_of(cfg.sources, cfg), _classes_of(cfg.valid_sources or cfg.sources, cfg)
    if cfg.labels == "table":
        check_table_knows([*sources, *valid_sources])
    folder = cfg.out or Path("exp/metad2a/collect") / slug("-".join(sources))
    with open_run(folder, program="metad2a", step="collect", config=cfg, products=_PRODUCTS) as run:
        if run.result is None:
            print(f"collect: {cfg.drawing.num_tasks} tasks of {', '.join(sources)} -> {folder}", flush=True)
            database = _collect(cfg, sources, valid_sources, folder)
            save_database(folder / FILE_NAME, database)
            run.finish(_summary(database))
        else:
            print(f"{folder} is finished; --restart collects anew")
        assert run.result is not None
        _report(run.result, folder)


def _classes_of(names: Sequence[str], cfg: CollectConfig) -> dict[str, int]:
    """Sources with their numbers of classes, known sets by their one name; nothing is decoded."""
    found = {}
    for text in names:
        source, plan = plan_task(text, data_root=cfg.data_root, seed=cfg.seed)
        name = text if ":" in plan.id else plan.id  # a folder's id does not say where it is
        if name in found:
            raise UsageError(f"source {name} is given twice")
        found[name] = len(plan.classes)
        del source
    return found


def _collect(
    cfg: CollectConfig, sources: Mapping[str, int], valid_sources: Mapping[str, int], folder: Path
) -> MetaDatabase:
    drawing = cfg.drawing
    learned = draw_tasks(dict(sources), drawing.num_tasks, drawing=drawing, seed=cfg.seed)
    selecting = draw_tasks(dict(valid_sources), drawing.num_valid_tasks, drawing=drawing, seed=cfg.seed, taken=learned)
    pool, valid_pool = draw_cells(drawing, cfg.seed)
    cells = {task: cells_of(task, pool, drawing.num_cells, cfg.seed) for task in learned}
    cells |= {task: cells_of(task, valid_pool, drawing.num_valid_cells, cfg.seed) for task in selecting}
    tasks = [*learned, *selecting]
    if cfg.labels == "table":
        accuracy = table_labels(table_of(cfg.data_root), tasks, cells)
    else:
        accuracy = train_labels(tasks, cells, cfg.training, cfg.workers, cfg=cfg, folder=folder)
    counts = torch.tensor([len(cells[task]) for task in tasks])
    return MetaDatabase(
        tasks=tuple(tasks),
        task_index=torch.arange(len(tasks)).repeat_interleave(counts),
        codes=VIEWS["nasbench201"].codes([cell for task in tasks for cell in cells[task]]),
        accuracy=accuracy,
        is_valid=(torch.arange(len(tasks)) >= len(learned)).repeat_interleave(counts),
        space_name=NasBench201Space().name if cfg.labels == "table" else cfg.training.space.name,
        meta=_meta(cfg),
    )


def _meta(cfg: CollectConfig) -> dict[str, Any]:
    """How the labels came about."""
    about: dict[str, Any] = {"labels": cfg.labels, "seed": cfg.seed, "drawing": to_dict(cfg.drawing)}
    if cfg.labels == "table":
        return about | {"split": TABLE_SPLIT, "epochs": TABLE_EPOCHS, "limit": _LIMIT}
    return about | {
        "recipe": to_dict(cfg.training.recipe),
        "recipe_digest": digest(cfg.training.recipe),
        "resolution": cfg.training.resolution,
        "seeds": list(cfg.training.seeds),
        "torch": torch.__version__.partition("+")[0],
        "python": platform.python_version(),
    }


def _summary(database: MetaDatabase) -> dict[str, Any]:
    source, result = database.source_index(), {}
    for place, name in enumerate(database.sources):
        found = database.accuracy[source == place]
        result[name] = {
            "num_tasks": sum(task.source == name for task in database.tasks),
            "num_labels": len(found),
            "mean": float(found.mean()),
            "std": float(found.std()) if len(found) > 1 else 0.0,
            "best": float(found.max()),
        }
    return {"labels": database.meta["labels"], "limit": database.meta.get("limit"), "sources": result}


def _report(result: Mapping[str, Any], folder: Path) -> None:
    for name, found in result["sources"].items():
        print(
            f"{name}: {found['num_tasks']} tasks, {found['num_labels']:,} labels, mean {100 * found['mean']:.2f} %, "
            f"best {100 * found['best']:.2f} %"
        )
    if result["limit"]:
        print(f"labels are from the table: {result['limit']}")
    file = folder / FILE_NAME
    print(f"database: {file}")
    for model in ("generator", "predictor"):
        print(f"next: python -m metad2a meta-train --model {model} --database {file}")
