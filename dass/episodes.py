"""Tasks as the bilevel objective sees them, and the draw of the queries of an episode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.experiment.seeds import generator
from dass.database import TaskTable
from dass.predictor import MapScale, map_patches, scale_maps

Label = Literal["best", "final"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskTensors:
    """One task's students and teacher on the device, maps laid out as patches once and for all.

    Attributes:
        task: id.
        student: (n, P, 9C) patches.
        codes: (n, L).
        accuracy: (n,).
        teacher: (1, P, 9C) patches.
        teacher_code: (1, L).
        teacher_accuracy: (1,).
    """

    task: str
    student: Tensor
    codes: Tensor
    accuracy: Tensor
    teacher: Tensor
    teacher_code: Tensor
    teacher_accuracy: Tensor


def to_tensors(table: TaskTable, label: Label, device: torch.device, map_scale: MapScale = "raw") -> TaskTensors:
    """Put a task on the device.

    Args:
        table: the task.
        label: which accuracy is predicted, the best over a training's validations or the one after the last epoch.
        device: where.
        map_scale: unit of the maps.
    """
    student, teacher = scale_maps(table.actmap, table.teacher_actmap, map_scale)
    teacher_accuracy = table.teacher_best_accuracy if label == "best" else table.teacher_final_accuracy
    return TaskTensors(
        task=table.task,
        student=map_patches(student.to(device)),
        codes=table.arch_enc.to(device),
        accuracy=(table.best_accuracy if label == "best" else table.final_accuracy).to(device),
        teacher=map_patches(teacher.to(device)),
        teacher_code=table.teacher_enc.to(device),
        teacher_accuracy=torch.tensor([teacher_accuracy], dtype=torch.float32, device=device),
    )


def draw_queries(task: TaskTensors, num_queries: int, seed: int, episode: int) -> TaskTensors:
    """The task with `min(num_queries, n)` of its students, drawn without replacement.

    The draw depends on seed, episode and task alone, so a resumed run needs no state to go on with the same ones. (The
    released code draws one student more and drops it, a leftover; the distribution is the same.)
    """
    random = generator(seed, "queries", task.task, episode)
    chosen = torch.randperm(len(task.accuracy), generator=random)[:num_queries].to(task.accuracy.device)
    return TaskTensors(
        task=task.task,
        student=task.student[chosen],
        codes=task.codes[chosen],
        accuracy=task.accuracy[chosen],
        teacher=task.teacher,
        teacher_code=task.teacher_code,
        teacher_accuracy=task.teacher_accuracy,
    )


def groups_of_tasks(tasks: Sequence[TaskTensors]) -> list[list[TaskTensors]]:
    """Tasks that are computed at once: one by one on the CPU, all of one number of queries on a GPU.

    A GPU waits for the launches of small kernels, which grouping divides; on the CPU grouping costs a third more,
    since the adapted weights of several tasks do not stay in the cache.
    """
    if all(task.accuracy.device.type == "cpu" for task in tasks):
        return [[task] for task in tasks]
    by_size: dict[torch.Size, list[TaskTensors]] = {}
    for task in tasks:
        by_size.setdefault(task.student.shape, []).append(task)
    return list(by_size.values())
