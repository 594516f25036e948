"""Step `collect --space mobilenetv3`: tasks of a supernet's classes, and its networks rated on each of them.

Source: Lee et al., ICLR 2021, released code (MetaD2A_mobilenetV3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from common.data.tasks import plan_task
from common.experiment.config import StepConfig, UsageError, to_dict
from common.experiment.names import slug
from common.experiment.run import open_run
from common.experiment.seeds import generator
from common.experiment.workers import Workers
from common.spaces import MobileNetV3Arch, MobileNetV3Space, sample_distinct
from common.supernet import StoredSupernet, load_supernet
from metad2a.collect import FILE_NAME
from metad2a.database import MetaDatabase, MetaTask, save_database
from metad2a.shipped import SHIPPED_SUPERNET
from metad2a.spaces import VIEWS
from metad2a.subnet_labels import Rating, rate_subnets
from metad2a.tasks import TaskDrawing, draw_tasks

_PRODUCTS = (FILE_NAME, "ratings")


@dataclass(frozen=True, kw_only=True)
class SubnetDrawing(TaskDrawing):
    """How many tasks and networks there are. Every network is rated on every task of its role, for one forward pass."""

    num_networks: int = 5000
    """Distinct networks to learn from, drawn uniformly. Published: one for each task."""
    num_valid_networks: int = 400
    """Others that tasks which select are rated with."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        if self.num_networks < 1 or self.num_valid_networks < (1 if self.num_valid_tasks else 0):
            raise ValueError(
                f"num_networks {self.num_networks}, num_valid_networks {self.num_valid_networks}: at least 1 of each"
            )


@dataclass(frozen=True, kw_only=True)
class CollectSubnetsConfig(StepConfig):
    """Make the meta-database of MobileNetV3 networks: class subsets of the supernet's set, and rated networks."""

    space: Literal["mobilenetv3"] = "mobilenetv3"
    """Architectures to collect; nasbench201 is the step without this flag."""
    supernet: Path = SHIPPED_SUPERNET
    """File of `train-supernet` or `import-official`; none takes the shipped one."""
    data: str | None = None
    """The set that it was trained on, where its name has changed; none takes the one it says. A folder's has to be
    given."""
    drawing: SubnetDrawing = field(default_factory=lambda: SubnetDrawing(min_classes=10, max_classes=990))
    """Numbers of tasks, classes and networks. Published: 10, 20, ... 990 classes."""
    num_calibration: int = 2000
    """Training images for the batch statistics of each network."""
    workers: Workers = field(default_factory=Workers)
    """Who rates them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.num_calibration < 1:
            raise ValueError(f"num_calibration is {self.num_calibration}; it must be at least 1")


def collect_subnets(cfg: CollectSubnetsConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: there is no supernet or no set.
        UsageError: the set is not the one that the supernet was trained on.
        ValueError: there are too few classes for the tasks asked for.
    """
    stored = load_supernet(cfg.supernet)
    data, num_classes = _source(cfg, stored)
    folder = cfg.out or Path("exp/metad2a/collect") / slug(f"mobilenetv3-{data}")
    with open_run(folder, program="metad2a", step="collect", config=cfg, products=_PRODUCTS) as run:
        if run.result is None:
            drawing = cfg.drawing
            num = drawing.num_networks + (drawing.num_valid_networks if drawing.num_valid_tasks else 0)
            print(f"collect: {num} networks of {cfg.supernet}, on classes of {data} -> {folder}", flush=True)
            database = _collect(cfg, stored, data, num_classes, folder)
            save_database(folder / FILE_NAME, database)
            run.finish(_summary(database))
        else:
            print(f"{folder} is finished; --restart collects anew")
        assert run.result is not None
        _report(run.result, folder)


def _source(cfg: CollectSubnetsConfig, stored: StoredSupernet) -> tuple[str, int]:
    """The supernet's set and its number of classes; nothing is decoded."""
    if cfg.data is None and ":" in stored.sources[0]:
        raise UsageError(f"{cfg.supernet} was trained on {stored.sources[0]}: say where that is with --data")
    data = cfg.data or stored.sources[0]
    source, plan = plan_task(data, data_root=cfg.data_root, seed=cfg.seed)
    names = tuple(source.class_names[label] for label in plan.classes)
    is_official = stored.notes.get("origin") == "official"  # its file does not name its classes
    if names != stored.class_names and not (is_official and len(names) == len(stored.class_names)):
        raise UsageError(
            f"{data} has {len(names)} classes, and not the {len(stored.class_names)} that {cfg.supernet} was trained "
            f"on: give its own set ({', '.join(stored.sources)}) with --data"
        )
    return (data if ":" in plan.id else plan.id), len(names)


def _collect(
    cfg: CollectSubnetsConfig, stored: StoredSupernet, data: str, num_classes: int, folder: Path
) -> MetaDatabase:
    drawing, sizes = cfg.drawing, {data: num_classes}
    learned = draw_tasks(sizes, drawing.num_tasks, drawing=drawing, seed=cfg.seed)
    selecting = draw_tasks(sizes, drawing.num_valid_tasks, drawing=drawing, seed=cfg.seed, taken=learned)
    plan = stored.supernet.plan
    space = MobileNetV3Space(width_mult=plan.width_mult, first_stride=plan.first_stride)
    wanted = drawing.num_networks + (drawing.num_valid_networks if selecting else 0)
    archs = sample_distinct(space, wanted, generator(cfg.seed, "networks"))
    rating = Rating(
        supernet=cfg.supernet,
        data=data,
        data_root=cfg.data_root,
        num_calibration=cfg.num_calibration,
        seed=cfg.seed,
        gpu=cfg.gpu,
    )
    roles: list[tuple[list[MobileNetV3Arch], list[MetaTask], str]] = [
        (archs[: drawing.num_networks], learned, "learned"),
        (archs[drawing.num_networks :], selecting, "selecting"),
    ]
    accuracy, codes = [], []
    for networks, tasks, name in roles:
        if tasks:
            found = rate_subnets(networks, tasks, rating, cfg.workers, folder / "ratings" / name)  # (M, T)
            accuracy.append(found.T.flatten())
            codes.append(VIEWS["mobilenetv3"].codes(networks).repeat(len(tasks), 1))
    counts = torch.tensor([drawing.num_networks] * len(learned) + [drawing.num_valid_networks] * len(selecting))
    is_selecting = torch.arange(len(counts)) >= len(learned)
    return MetaDatabase(
        tasks=(*learned, *selecting),
        task_index=torch.arange(len(counts)).repeat_interleave(counts),
        codes=torch.cat(codes),
        accuracy=torch.cat(accuracy),
        is_valid=is_selecting.repeat_interleave(counts),
        space_name=space.name,
        meta={
            "labels": "supernet",
            "seed": cfg.seed,
            "drawing": to_dict(drawing),
            "num_calibration": cfg.num_calibration,
            "resolution": stored.resolution,
            "supernet_sources": list(stored.sources),
        },
    )


def _summary(database: MetaDatabase) -> dict[str, Any]:
    learned = database.rows(valid=False)
    tasks = torch.unique(database.task_index[learned])
    by_task = [database.accuracy[learned][database.task_index[learned] == task] for task in tasks]
    return {
        "labels": "supernet",
        "space": database.space_name,
        "num_tasks": len(tasks),
        "num_valid_tasks": len(database.tasks) - len(tasks),
        "num_labels": len(learned),
        "mean": float(database.accuracy[learned].mean()),
        "std_of_task_means": float(torch.stack([found.mean() for found in by_task]).std(correction=0)),
        "std_inside_tasks": float(torch.stack([found.std(correction=0) for found in by_task]).mean()),
    }


def _report(result: Mapping[str, Any], folder: Path) -> None:
    print(
        f"{result['num_tasks']} tasks to learn from and {result['num_valid_tasks']} that select, "
        f"{result['num_labels']:,} labels, mean {100 * result['mean']:.2f} %; standard deviation between tasks "
        f"{100 * result['std_of_task_means']:.2f}, inside one {100 * result['std_inside_tasks']:.2f}"
    )
    file = folder / FILE_NAME
    print(f"database: {file}")
    for model in ("generator", "predictor"):
        print(f"next: python -m metad2a meta-train --model {model} --database {file}")
