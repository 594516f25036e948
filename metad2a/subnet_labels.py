"""Labels of (task, network): accuracy with a supernet's weights on the task's classes alone.

Source: Lee et al., ICLR 2021, released code (MetaD2A_mobilenetV3): the classifier's rows of the task's classes, images
held out, batch statistics estimated anew. There a network has one task; here it has all of them, for one forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from common.data.tasks import Task, open_task
from common.experiment.device import resolve_device
from common.experiment.parallel import Job, map_resumable
from common.experiment.workers import Workers
from common.spaces import MobileNetV3Arch, MobileNetV3Supernet
from common.store.weights import load_weights, save_weights
from common.supernet import calibration_images, load_supernet, subnet_logits
from metad2a.database import MetaTask


@dataclass(frozen=True, kw_only=True)
class Rating:
    """How networks are rated.

    Attributes:
        supernet: file of the weights.
        data: the set that it was trained on.
        data_root: folder of the sets.
        num_calibration: training images for batch statistics.
        seed: of their draw.
        gpu: where.
    """

    supernet: Path
    data: str
    data_root: Path | None
    num_calibration: int
    seed: int
    gpu: str


def subset_accuracies(logits: Tensor, labels: Tensor, tasks: Sequence[MetaTask]) -> Tensor:
    """Accuracy on some classes alone: their images, and the largest of their outputs.

    Args:
        logits: (N, K) of images of all classes.
        labels: (N,) int64.
        tasks: sets of these classes.

    Returns:
        (len(tasks),) float32 in [0, 1].

    Raises:
        ValueError: no image is of a task's classes.
    """
    best = torch.empty(len(tasks))
    for place, task in enumerate(tasks):
        classes = torch.tensor(task.classes, device=logits.device)
        rows = torch.isin(labels, classes).nonzero().flatten()
        if not len(rows):
            raise ValueError(f"{task.id} has no held-out image to rate networks on")
        answers = classes[logits[rows][:, classes].argmax(1)]
        best[place] = (answers == labels[rows]).float().mean()
    return best


def rate_subnets(
    archs: Sequence[MobileNetV3Arch],
    tasks: Sequence[MetaTask],
    rating: Rating,
    workers: Workers,
    folder: Path,
) -> Tensor:
    """Rate every network on every task; what is rated is kept as it comes.

    Args:
        archs: M distinct networks.
        tasks: T sets of the supernet's classes.
        rating: how.
        workers: who does it.
        folder: for one small file a network.

    Returns:
        (M, T) accuracies in [0, 1].
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"network-{place}.safetensors" for place in range(len(archs))]
    jobs = [
        Job(key=str(place), args=(arch, tuple(tasks), rating, file))
        for place, (arch, file) in enumerate(zip(archs, files, strict=True))
    ]
    map_resumable(
        _rate_one,
        jobs,
        done=lambda key: files[int(key)].is_file(),
        store=lambda key, value: None,  # each job writes its own file
        backend=workers.backend,
        workers=workers.num,
        threads=workers.threads,
        description="networks",
    )
    return torch.stack([load_weights(file)[0]["accuracy"] for file in files])


def _rate_one(arch: MobileNetV3Arch, tasks: tuple[MetaTask, ...], rating: Rating, file: Path) -> None:
    supernet, task, images = _opened(rating)
    device = resolve_device(rating.gpu)
    logits = subnet_logits(
        supernet, arch, calibration=images, images=task.images, indices=task.evaluation, device=device
    )
    accuracy = subset_accuracies(logits, task.labels[task.evaluation].to(device), tasks)
    save_weights(file, {"accuracy": accuracy}, {"kind": "metad2a-ratings"})


@lru_cache(maxsize=1)
def _opened(rating: Rating) -> tuple[MobileNetV3Supernet, Task, list[Tensor]]:
    """What all networks of this process are rated with."""
    stored, device = load_supernet(rating.supernet), resolve_device(rating.gpu)
    task = open_task(rating.data, resolution=stored.resolution, data_root=rating.data_root, seed=rating.seed)
    images = calibration_images(task, rating.num_calibration, seed=rating.seed, device=device)
    return stored.supernet.to(device), task, images
