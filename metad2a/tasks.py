"""Tasks for meta-training: random classes of source sets, and the cells that are labelled on each.

Source: Lee et al., ICLR 2021, released code (5,000 tasks of 20 of 600 classes of ImageNet at 32 pixels).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.data.tasks import Task
from common.experiment.seeds import generator
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_classes import is_connected
from metad2a.database import MetaTask

_PATIENCE = 200  # draws for each task asked for, before the sets of classes count as used up


@dataclass(frozen=True, kw_only=True)
class TaskDrawing:
    """How many tasks there are, and what they are made of."""

    num_tasks: int = 5000
    """Tasks to learn from, in all, taken in turn from the sources."""
    num_valid_tasks: int = 400
    """Tasks that select. They share neither an architecture with those to learn from nor a whole set of classes."""
    min_classes: int = 20
    """Least number of classes of a task."""
    max_classes: int = 20
    """Largest; between the two every number is as likely. A source with fewer gives what it has."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num_tasks < 1:
            raise ValueError(f"num_tasks is {self.num_tasks}; it must be at least 1")
        if self.num_valid_tasks < 0:
            raise ValueError(f"num_valid_tasks is {self.num_valid_tasks}; it must be 0 or more")
        if not 2 <= self.min_classes <= self.max_classes:
            raise ValueError(f"min_classes {self.min_classes} and max_classes {self.max_classes}: 2 <= min <= max")


@dataclass(frozen=True, kw_only=True)
class Drawing(TaskDrawing):
    """Tasks, and how many cells each has."""

    num_cells: int = 1
    """Cells labelled on each task to learn from, drawn uniformly without replacement."""
    num_valid_cells: int = 1
    """The same for tasks that select; from two on, the ranking inside a task can be measured."""
    valid_share: float = 0.1
    """Share of all cells that is kept for the tasks that select."""
    connected: bool = True
    """Only cells whose output depends on their input; the other 341 stay at chance."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        for name in ("num_cells", "num_valid_cells"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.valid_share < 1:
            raise ValueError(f"valid_share is {self.valid_share}; it must lie between 0 and 1")


def draw_tasks(
    sources: dict[str, int], num: int, *, drawing: TaskDrawing, seed: int, taken: Sequence[MetaTask] = ()
) -> list[MetaTask]:
    """Distinct random sets of classes, from the sources in turn.

    Args:
        sources: name -> number of its classes.
        num: how many tasks in all.
        drawing: numbers of classes.
        seed: of the draw; every source has its own stream.
        taken: tasks that must not be drawn again.

    Raises:
        ValueError: a source has fewer distinct sets of classes than are asked of it.
    """
    shares = {name: len(range(place, num, len(sources))) for place, name in enumerate(sources)}
    drawn = {
        name: _draw_classes(name, sources[name], share, drawing=drawing, seed=seed, taken=taken)
        for name, share in shares.items()
    }
    names = list(sources)
    return [drawn[names[place % len(names)]][place // len(names)] for place in range(num)]


def draw_cells(drawing: Drawing, seed: int) -> tuple[list[Cell], list[Cell]]:
    """Cells to learn from and cells to select with, which have none in common."""
    cells = [cell for cell in NasBench201Space().all() if not drawing.connected or is_connected(cell)]
    order = torch.randperm(len(cells), generator=generator(seed, "cells")).tolist()
    num_valid = round(drawing.valid_share * len(cells))
    return [cells[i] for i in order[num_valid:]], [cells[i] for i in order[:num_valid]]


def cells_of(task: MetaTask, pool: Sequence[Cell], num: int, seed: int) -> list[Cell]:
    """Distinct cells of a task; they depend on the task and not on those beside it.

    Raises:
        ValueError: the pool has fewer cells than asked for.
    """
    if num > len(pool):
        raise ValueError(f"{num} cells a task are asked for, and there are {len(pool)}: ask for fewer")
    order = torch.randperm(len(pool), generator=generator(seed, "cells", task.id))[:num]
    return [pool[i] for i in order.tolist()]


def class_subset(task: Task, classes: Sequence[int]) -> Task:
    """Some classes of a task, numbered anew in the order given.

    Raises:
        ValueError: a class that the task does not have.
    """
    outside = [label for label in classes if not 0 <= label < task.num_classes]
    if outside:
        raise ValueError(f"{task.id} has no class {outside[0]}; it has 0 to {task.num_classes - 1}")
    number = torch.full((task.num_classes,), -1)
    number[torch.tensor(classes)] = torch.arange(len(classes))
    labels = number[task.labels]
    place = (labels >= 0).cumsum(0) - 1  # of each image among those that stay

    def kept(rows: Tensor) -> Tensor:
        return place[rows[labels[rows] >= 0]]

    meta = MetaTask(task.id, tuple(classes))
    return replace(
        task,
        id=meta.id,
        description=f"{task.description}; classes {', '.join(map(str, classes))}",
        images=task.images[labels >= 0],
        labels=labels[labels >= 0],
        class_names=tuple(task.class_names[label] for label in classes),
        train=kept(task.train),
        evaluation=kept(task.evaluation),
    )


def _draw_classes(
    source: str, num_classes: int, num: int, *, drawing: TaskDrawing, seed: int, taken: Sequence[MetaTask]
) -> list[MetaTask]:
    random = generator(seed, "tasks", source)
    low, high = min(drawing.min_classes, num_classes), min(drawing.max_classes, num_classes)
    found: dict[MetaTask, None] = {}
    for _ in range(_PATIENCE * num):
        if len(found) == num:
            break
        size = int(torch.randint(low, high + 1, (), generator=random))
        classes = torch.randperm(num_classes, generator=random)[:size].sort().values
        task = MetaTask(source, tuple(classes.tolist()))
        if task not in taken:
            found[task] = None
    if len(found) < num:
        raise ValueError(
            f"{source} has {num_classes} classes, and {num} distinct tasks of {low} to {high} of them were not found: "
            "ask for fewer tasks or another number of classes"
        )
    return list(found)
