"""The meta-database: for every task, students with their maps, codes and accuracies, and the teacher's.

Source: Lee et al., ICLR 2023, released code (one file a task, the teacher's beside it); ours is one safetensors file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.store.weights import load_weights, save_weights
from dass.predictor import probe_digest

_KIND = "dass-task-table"
_SUFFIX = ".safetensors"
_PER_STUDENT = (
    "actmap",
    "arch_enc",
    "best_accuracy",
    "final_accuracy",
    "initial_accuracy",
    "final_loss",
    "num_params",
    "macs",
    "seed_best_accuracy",
)
_COUNTS = ("num_params", "macs")
_LABELS = ("best_accuracy", "final_accuracy", "seed_best_accuracy")
_OF_TEACHER = ("teacher_best_accuracy", "teacher_final_accuracy", "teacher_initial_accuracy")
_SHARED = ("space_name", "resolution", "map_shape", "code_length", "probe", "pr_type", "origin")


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskTable:
    """What is known of N students and the teacher on one task. Accuracies are fractions in [0, 1].

    Attributes:
        task: stable id, such as `tiny_imagenet/3`.
        description: for people.
        space_name: search space of the architectures, and its codes.
        resolution: side R of the images.
        num_classes: classes of the task.
        actmap: (N, C, h, w) stage-4 maps of the remapped, untrained students on the probe.
        arch_enc: (N, L) architecture codes.
        architectures: N text forms.
        best_accuracy: (N,) best over the validations of a training, mean over seeds.
        final_accuracy: (N,) after the last epoch, mean over seeds.
        initial_accuracy: (N,) of the remapped student before any training; NaN where it is unknown.
        final_loss: (N,) validation loss after the last epoch; NaN where it is unknown.
        num_params: (N,) int64; 0 where it is unknown.
        macs: (N,) int64 for one image; 0 where it is unknown.
        seed_best_accuracy: (N, num_seeds), the column means of which are `best_accuracy`; how far two seeds agree
            bounds what any predictor can reach.
        teacher_actmap: (1, C, h, w).
        teacher_enc: (1, L).
        teacher_best_accuracy: its own.
        teacher_final_accuracy: its own.
        teacher_initial_accuracy: before training; NaN where it is unknown.
        probe: (1, 3, R, R) image behind all maps; None where it is unknown (imported files).
        meta: plain JSON values: `unit` ("fraction"), `pr_type`, `origin` ("dass", or "official" for imported codes),
            recipe and its digest, versions, data digest.
    """

    task: str
    description: str
    space_name: str
    resolution: int
    num_classes: int
    actmap: Tensor
    arch_enc: Tensor
    architectures: tuple[str, ...]
    best_accuracy: Tensor
    final_accuracy: Tensor
    initial_accuracy: Tensor
    final_loss: Tensor
    num_params: Tensor
    macs: Tensor
    seed_best_accuracy: Tensor
    teacher_actmap: Tensor
    teacher_enc: Tensor
    teacher_best_accuracy: float
    teacher_final_accuracy: float
    teacher_initial_accuracy: float
    probe: Tensor | None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, units and values.

        Raises:
            ValueError: parts disagree in size, an accuracy is no fraction, or maps or labels are not finite; the
                message names the task and the rows.
        """
        self._check_shapes()
        self._check_values()

    @property
    def num_students(self) -> int:
        """N."""
        return len(self.architectures)

    @property
    def num_seeds(self) -> int:
        """Trainings behind each label."""
        return self.seed_best_accuracy.shape[1]

    @property
    def identity(self) -> dict[str, Any]:
        """What all tables of one database share."""
        return {
            "space_name": self.space_name,
            "resolution": self.resolution,
            "map_shape": tuple(self.actmap.shape[1:]),
            "code_length": self.arch_enc.shape[1],
            "probe": probe_digest(self.probe),
            "pr_type": self.meta.get("pr_type", "copy_paste_first"),
            "origin": self.meta.get("origin", "dass"),
        }

    def _check_shapes(self) -> None:
        if self.num_students == 0:
            raise ValueError(f"task {self.task}: there is no student")
        for name in _PER_STUDENT:
            if len(getattr(self, name)) != self.num_students:
                raise ValueError(
                    f"task {self.task}: {name} has {len(getattr(self, name))} rows for {self.num_students} students"
                )
        pairs = ((self.actmap, self.teacher_actmap, "map"), (self.arch_enc, self.teacher_enc, "code"))
        for students, teacher, what in pairs:
            if teacher.shape != (1, *students.shape[1:]):
                raise ValueError(
                    f"task {self.task}: the teacher's {what} has shape {tuple(teacher.shape)}; the students' have "
                    f"{tuple(students.shape)}, so (1, {', '.join(map(str, students.shape[1:]))}) is needed"
                )
        if self.actmap.dim() != 4 or self.arch_enc.dim() != 2 or self.seed_best_accuracy.dim() != 2:
            raise ValueError(f"task {self.task}: maps need 4 dimensions, codes and accuracies of the seeds 2")

    def _check_values(self) -> None:
        unit = self.meta.get("unit", "fraction")
        if unit != "fraction":
            raise ValueError(f"task {self.task}: accuracies are stored as {unit!r}; 'fraction' is needed")
        for name in ("actmap", "arch_enc", *_LABELS):
            finite = torch.isfinite(getattr(self, name)).view(self.num_students, -1).all(1)
            rows = (~finite).nonzero().flatten().tolist()
            if rows:
                raise ValueError(f"task {self.task}: {name} is not finite in {_rows(rows)}; train those students again")
        for name in (*_LABELS, "initial_accuracy"):
            values = getattr(self, name).view(self.num_students, -1)
            rows = ((values > 1) | (values < 0)).any(1).nonzero().flatten().tolist()  # NaN is neither
            if rows:
                worst = float(values[rows[0]].abs().max())
                raise ValueError(
                    f"task {self.task}: {name} is {worst:g} in {_rows(rows)}; accuracies are fractions in [0, 1]"
                )
        if not torch.isfinite(self.teacher_actmap).all():
            raise ValueError(f"task {self.task}: the teacher's map is not finite")
        for name in _OF_TEACHER[:2]:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"task {self.task}: {name} is {getattr(self, name):g}; a fraction in [0, 1] is needed")


def table_path(folder: Path | str, task: str) -> Path:
    """File of a task in a database folder: `tiny_imagenet/3` is in `tiny_imagenet-3.safetensors`."""
    return Path(folder) / (task.strip("/").replace("/", "-") + _SUFFIX)


def save_table(path: Path | str, table: TaskTable, *, half: bool = True) -> None:
    """Write one task's file.

    Args:
        path: the file to replace.
        table: the task.
        half: store maps as float16, in half the space; they are read back as float32.

    Raises:
        ValueError: a map's value is too large for float16.
    """
    tensors = {name: getattr(table, name) for name in _PER_STUDENT}
    tensors |= {name: torch.tensor(getattr(table, name), dtype=torch.float64) for name in _OF_TEACHER}
    tensors |= {"teacher_actmap": table.teacher_actmap, "teacher_enc": table.teacher_enc}
    for name in ("actmap", "teacher_actmap"):
        stored = tensors[name].to(torch.float16 if half else torch.float32)
        if not torch.isfinite(stored).all():
            raise ValueError(f"task {table.task}: {name} reaches {tensors[name].max():g}, too large for float16")
        tensors[name] = stored
    if table.probe is not None:
        tensors["probe"] = table.probe
    described = {
        name: getattr(table, name)
        for name in ("task", "description", "space_name", "resolution", "num_classes", "architectures", "meta")
    }
    save_weights(path, tensors, {"kind": _KIND, "table": json.dumps(described, sort_keys=True, allow_nan=False)})


def load_table(path: Path | str) -> TaskTable:
    """Read one task's file; maps come as float32.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged or no task file.
        ValueError: its values are not usable; see `TaskTable`.
    """
    tensors, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, not {_KIND!r}: "
            "a database folder holds only what `python -m dass collect` wrote"
        )
    described = json.loads(metadata["table"])
    described["architectures"] = tuple(described["architectures"])
    values: dict[str, Any] = {
        name: value if name in _COUNTS else value.float() for name, value in tensors.items() if name not in _OF_TEACHER
    }
    values |= {name: tensors[name].item() for name in _OF_TEACHER if name in tensors}
    missing = {f.name for f in fields(TaskTable)} - {*values, *described, "probe"}
    if missing:
        raise RuntimeError(f"{path} lacks {', '.join(sorted(missing))}: make it anew")
    return TaskTable(**{"probe": None, **values, **described})


def load_database(folder: Path | str) -> dict[str, TaskTable]:
    """Read all tasks of a folder, by id, in the order of the file names.

    Raises:
        FileNotFoundError: there is no such folder, or no task in it.
        ValueError: a file differs from the first in space, code, map, probe or remapping, or two hold one task.
    """
    files = sorted(Path(folder).glob("*" + _SUFFIX))
    if not files:
        raise FileNotFoundError(
            f"there is no task file (*{_SUFFIX}) in {folder}: make some with `python -m dass collect`"
        )
    tables: dict[str, TaskTable] = {}
    for file in files:
        table = load_table(file)
        if table.task in tables:
            raise ValueError(f"{file} holds task {table.task}, which another file of {folder} holds as well")
        tables[table.task] = table
        first = next(iter(tables.values()))
        check_same_origin(first, table, where=f"{file} (beside {files[0].name})")
    return tables


def check_same_origin(expected: TaskTable, table: TaskTable, *, where: str) -> None:
    """Refuse to mix tables whose maps or codes mean different things.

    Raises:
        ValueError: they differ; the message starts with `where` and says in what.
    """
    wanted, found = expected.identity, table.identity
    different = [f"{name} {found[name]} instead of {wanted[name]}" for name in _SHARED if found[name] != wanted[name]]
    if different:
        raise ValueError(f"{where} does not fit: {', '.join(different)}; keep databases of two origins in two folders")


def split_by_role(
    tables: Mapping[str, TaskTable], meta_train: Sequence[str], meta_valid: Sequence[str]
) -> tuple[list[TaskTable], list[TaskTable]]:
    """Tables of the meta-training and of the meta-validation tasks.

    Args:
        tables: the database.
        meta_train: ids; empty means all tasks that are not in `meta_valid`.
        meta_valid: ids.

    Raises:
        ValueError: an id is not in the database, has both roles, or a role is left without tasks.
    """
    unknown = [task for task in (*meta_train, *meta_valid) if task not in tables]
    if unknown:
        raise ValueError(f"no task {', '.join(unknown)} in the database; it has {', '.join(tables)}")
    both = sorted(set(meta_train) & set(meta_valid))
    if both:
        raise ValueError(f"{', '.join(both)}: a task cannot be for meta-training and meta-validation at once")
    train = [tables[task] for task in meta_train] or [t for task, t in tables.items() if task not in meta_valid]
    if not train or not meta_valid:
        raise ValueError(
            f"{'meta-training' if not train else 'meta-validation'} has no task; the database has {', '.join(tables)}"
        )
    return train, [tables[task] for task in meta_valid]


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:10]))
    return f"row{'s' if len(rows) > 1 else ''} {shown}{', ...' if len(rows) > 10 else ''}"
