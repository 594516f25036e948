"""Training of one network from scratch, and the file that it is kept in."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.data.tasks import open_task
from common.experiment.device import resolve_device
from common.kd.learner import Outcome
from common.kd.recipe import Recipe
from common.kd.trainer import train
from dna.archs import DnaArch, Skeleton
from dna.models import build
from dna.official_files import RetrainedNetwork, save_checkpoint
from dna.teacher import TeacherConfig, load_teacher

OUR_SCALING = "[-1, 1]"
"""Mark of networks that take images in this range; those of the release are normalised by ImageNet's statistics."""


@dataclass(frozen=True, kw_only=True)
class NetworkJob:
    """One network from one seed."""

    data: str
    data_root: Path | None
    data_seed: int
    resolution: int
    arch: DnaArch
    skeleton: Skeleton
    recipe: Recipe
    seed: int
    drop_rate: float
    drop_path_rate: float
    gpu: str
    state: Path
    """File of the training state."""
    teacher: TeacherConfig | None = None
    """Whose logits it learns from, where the recipe's loss is not ce."""
    teacher_file: Path | None = None
    file: Path | None = None
    """Where the network is kept; None keeps its accuracy alone."""


class Rescaled(nn.Module):
    """A classifier that takes images in [-1, 1], whatever its own scaling is."""

    def __init__(self, network: nn.Module, scaling: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = (nn.Buffer(torch.tensor(values)[:, None, None], persistent=False) for values in scaling)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, K)."""
        logits: Tensor = self.network((images * 0.5 + 0.5 - self.mean) / self.std)
        return logits


def train_network(job: NetworkJob) -> Outcome:
    """Train one network; an interrupted training goes on where it stopped.

    Raises:
        ValueError: its widths are no multiples of 8, or the teacher does not know the classes.
        RuntimeError: a loss is not finite.
    """
    device = resolve_device(job.gpu)
    task = open_task(job.data, resolution=job.resolution, data_root=job.data_root, seed=job.data_seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        network = build(
            job.arch,
            task.num_classes,
            skeleton=job.skeleton,
            drop_rate=job.drop_rate,
            drop_path_rate=job.drop_path_rate,
        )
    teacher = None
    if job.teacher is not None:
        loaded = load_teacher(job.teacher, job.teacher_file, num_classes=task.num_classes, device=device)
        teacher = Rescaled(loaded.network, loaded.scaling).to(device)
    outcome = train(
        [network],
        task,
        job.recipe,
        device=device,
        seed=job.seed,
        teacher=teacher,
        checkpoint=job.state,
        description=f"{task.id}, seed {job.seed}",
    )[0]
    if job.file is not None:
        notes = {
            "scaling": OUR_SCALING,
            "task": task.id,
            "resolution": str(task.resolution),
            "class_names": json.dumps(task.class_names),
            "seed": str(job.seed),
            "final_accuracy": repr(outcome.final_accuracy),
            "best_accuracy": repr(outcome.best_accuracy),
            "initial_accuracy": repr(outcome.initial_accuracy),
            "seconds": repr(outcome.seconds),
            "curve": json.dumps(outcome.curve),
        }
        state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
        found = RetrainedNetwork(
            arch=job.arch, num_classes=task.num_classes, state=state, notes=notes, skeleton=job.skeleton
        )
        save_checkpoint(job.file, found)
    job.state.unlink(missing_ok=True)
    return outcome
