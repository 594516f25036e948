"""The meta-database: tasks made of classes of the source sets, and labelled architectures on each of them.

Source: Lee et al., ICLR 2021, released code (two files of tasks, graphs and accuracies); ours is one safetensors file.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.experiment.config import digest
from common.store.weights import load_weights, save_weights
from metad2a.spaces import Arch, View, view_of

_KIND = "metad2a-database"
_TENSORS = ("task_index", "codes", "accuracy", "is_valid")
_DESCRIBED = ("space_name", "meta")


@dataclass(frozen=True)
class MetaTask:
    """Some classes of a source set."""

    source: str
    """What the set is called, as `--data` takes it."""
    classes: tuple[int, ...]
    """Their numbers in the set, rising."""

    @property
    def id(self) -> str:
        """Such as `cifar100/3+17+42`."""
        return f"{self.source}/{'+'.join(map(str, self.classes))}"

    @property
    def key(self) -> str:
        """Short name for files."""
        return digest({"task": self.id})


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaDatabase:
    """R labelled architectures on tasks.

    Attributes:
        tasks: the tasks.
        task_index: (R,) int64, the task of each row.
        codes: (R, L) int64, the architecture of each row in whole numbers, see `View.codes`.
        accuracy: (R,) float32 in [0, 1].
        is_valid: (R,) bool, rows that only select; the others are learned from.
        space_name: networks that the labels belong to.
        meta: plain JSON values: `labels` ("table", "train" or "supernet") and how they came about.

    Raises:
        ValueError: parts disagree in size, or a value is out of range; the message names the row.
    """

    tasks: tuple[MetaTask, ...]
    task_index: Tensor
    codes: Tensor
    accuracy: Tensor
    is_valid: Tensor
    space_name: str
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes and values."""
        rows = len(self.task_index)
        limits = torch.tensor(self.view.limits)
        shapes = {"task_index": (rows,), "codes": (rows, len(limits)), "accuracy": (rows,), "is_valid": (rows,)}
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"database: {name} has shape {tuple(getattr(self, name).shape)}; {shape} is needed")
        repeated = [task for task, times in Counter(self.tasks).items() if times > 1]
        if repeated:
            raise ValueError(f"database: task {repeated[0].id} is there twice")
        wrong = {
            f"a task outside 0 to {len(self.tasks) - 1}": (self.task_index < 0) | (self.task_index >= len(self.tasks)),
            "a code of no architecture": ((self.codes < limits[:, 0]) | (self.codes > limits[:, 1])).any(1),
            "an accuracy that is no fraction in [0, 1]": ~((self.accuracy >= 0) & (self.accuracy <= 1)),  # NaN too
        }
        for what, where in wrong.items():
            if bool(where.any()):
                raise ValueError(f"database: row {int(where.nonzero()[0])} has {what}")

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.task_index)

    @property
    def sources(self) -> tuple[str, ...]:
        """Source sets, in the order of the tasks."""
        return tuple(dict.fromkeys(task.source for task in self.tasks))

    def source_index(self) -> Tensor:
        """(R,) int64, place of each row's set in `sources`."""
        of_task = torch.tensor([self.sources.index(task.source) for task in self.tasks])
        return of_task[self.task_index]

    def rows(self, *, valid: bool) -> Tensor:
        """Indices of the rows that select, or of those that are learned from."""
        return (self.is_valid == valid).nonzero().flatten()

    @property
    def view(self) -> View:
        """What the architectures of its space are."""
        return view_of(self.space_name)

    def archs(self, rows: Tensor) -> list[Arch]:
        """Architectures of some rows."""
        return self.view.archs(self.codes[rows])

    def best_rows(self, num: int, *, valid: bool, among: Tensor | None = None) -> Tensor:
        """For each task its `num` most accurate architectures in one role, or all where it has fewer; best first.

        Args:
            num: how many.
            valid: the role.
            among: rows to take them from; None takes all of the role.

        Returns:
            Indices of rows, task by task.
        """
        rows = self.rows(valid=valid) if among is None else among[self.is_valid[among] == valid]
        rows = rows[self.accuracy[rows].argsort(descending=True, stable=True)]
        rows = rows[self.task_index[rows].argsort(stable=True)]
        tasks = self.task_index[rows]
        first = torch.searchsorted(tasks, tasks)  # where each row's task begins
        return rows[torch.arange(len(rows)) - first < num]


def save_database(path: Path | str, database: MetaDatabase) -> None:
    """Write a database; equal ones give equal bytes."""
    tensors = {
        "task_index": database.task_index.to(torch.int32),
        "codes": database.codes.to(torch.uint8),
        "accuracy": database.accuracy.float(),
        "is_valid": database.is_valid,
    }
    described = {
        **{name: getattr(database, name) for name in _DESCRIBED},
        "tasks": [[task.source, list(task.classes)] for task in database.tasks],
    }
    save_weights(path, tensors, {"kind": _KIND, "database": json.dumps(described, sort_keys=True, allow_nan=False)})


def load_database(path: Path | str) -> MetaDatabase:
    """Read what `save_database` wrote.

    Raises:
        FileNotFoundError: there is no such file; the message says how to make one.
        RuntimeError: it is damaged or no database.
        ValueError: its values are not usable; see `MetaDatabase`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no database {path}: make one with `python -m metad2a collect`")
    tensors, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, no database: make one with "
            "`python -m metad2a collect`"
        )
    described = json.loads(metadata["database"])
    missing = [name for name in (*_TENSORS, *_DESCRIBED, "tasks") if name not in {**tensors, **described}]
    if missing:
        raise RuntimeError(f"{path} lacks {', '.join(missing)}: make it anew")
    return MetaDatabase(
        tasks=_tasks(described["tasks"]),
        task_index=tensors["task_index"].long(),
        codes=tensors["codes"].long(),
        accuracy=tensors["accuracy"],
        is_valid=tensors["is_valid"],
        **{name: described[name] for name in _DESCRIBED},
    )


def _tasks(stored: Sequence[Sequence[Any]]) -> tuple[MetaTask, ...]:
    return tuple(MetaTask(str(source), tuple(int(label) for label in classes)) for source, classes in stored)
