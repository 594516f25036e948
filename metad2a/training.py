"""Train architectures on one dataset, each from several seeds: the work of the steps `train` and `evaluate`."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import nn

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.parallel import Job, map_resumable
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.kd.trainer import train
from common.report.facts import RunFacts, run_facts
from common.spaces import NasBench201Space
from common.supernet import StoredSupernet, load_supernet, with_new_head
from metad2a.networks import TrainedNetwork, load_network, save_network
from metad2a.spaces import Arch

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class FreshWeights:
    """Cells begin with new weights, drawn from the training's seed."""

    space: NasBench201Space

    @property
    def space_name(self) -> str:
        """The space that the networks are of."""
        return self.space.name

    def network(self, arch: Arch, num_classes: int, resolution: int, seed: int) -> nn.Module:
        """The network before training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.space.build(arch, num_classes, resolution)  # type: ignore[arg-type]  # cells alone come here


@dataclass(frozen=True, kw_only=True)
class InheritedWeights:
    """MobileNetV3 networks begin with a supernet's weights and a new classifier, drawn from the training's seed."""

    supernet: Path
    space_name: str

    def network(self, arch: Arch, num_classes: int, resolution: int, seed: int) -> nn.Module:
        """The network before training."""
        supernet = _opened(self.supernet).supernet
        return with_new_head(supernet.cut(arch), num_classes, seed=seed)  # type: ignore[arg-type]  # no cells come here


@lru_cache(maxsize=1)
def _opened(file: Path) -> StoredSupernet:
    return load_supernet(file)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How networks are trained on one dataset."""

    data: str
    data_root: Path | None
    data_seed: int
    resolution: int
    start: FreshWeights | InheritedWeights
    recipe: Recipe
    gpu: str

    @classmethod
    def of(
        cls, cfg: StepConfig, data: str, resolution: int, start: FreshWeights | InheritedWeights, recipe: Recipe
    ) -> "Training":
        """With what every step's config says."""
        return cls(
            data=data,
            data_root=cfg.data_root,
            data_seed=cfg.seed,
            resolution=resolution,
            start=start,
            recipe=recipe,
            gpu=cfg.gpu,
        )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One architecture from one seed."""

    name: str
    """What it is called in the names of files: `chosen`, `random3`."""
    arch: Arch
    seed: int

    @property
    def file_name(self) -> str:
        """Where its weights lie in the run's folder."""
        return network_file(self.name, self.seed)


def network_file(name: str, seed: int) -> str:
    """File of a trained network."""
    return f"cell-{name}-seed{seed}.safetensors"


def train_all(training: Training, wanted: Sequence[Wanted], workers: Workers, folder: Path) -> None:
    """Train what has no file in the folder yet; an interrupted training goes on where it stopped.

    Args:
        training: how.
        wanted: which architectures from which seeds.
        workers: who trains.
        folder: of the run; unfinished trainings are kept in its `checkpoint`.
    """
    jobs = {
        each.file_name: (
            training,
            each,
            folder / each.file_name,
            folder / "checkpoint" / f"{each.name}-seed{each.seed}.pt",
        )
        for each in wanted
    }
    map_resumable(
        _train_one,
        [Job(key=key, args=args) for key, args in jobs.items()],
        done=lambda key: (folder / key).exists(),
        store=lambda key, value: None,  # each job writes its own file
        backend=workers.backend,
        workers=workers.num,
        threads=workers.threads,
        description="networks",
    )


def _train_one(training: Training, wanted: Wanted, file: Path, state: Path) -> None:
    task = _task(training.data, training.resolution, training.data_root, training.data_seed)
    network = training.start.network(wanted.arch, task.num_classes, task.resolution, wanted.seed)
    outcome = train(
        [network],
        task,
        training.recipe,
        device=resolve_device(training.gpu),
        seed=wanted.seed,
        checkpoint=state,
        description=f"{task.id}, {wanted.name}, seed {wanted.seed}",
    )[0]
    trained = TrainedNetwork(
        network=network.cpu(),
        space_name=training.start.space_name,
        arch=wanted.arch,
        task=task.id,
        class_names=task.class_names,
        resolution=task.resolution,
        final_accuracy=outcome.final_accuracy,
        best_accuracy=outcome.best_accuracy,
        initial_accuracy=outcome.initial_accuracy,
        notes={"recipe": to_dict(training.recipe), "seed": wanted.seed, "weights": "last", "curve": outcome.curve},
    )
    save_network(file, trained)
    state.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _task(data: str, resolution: int, data_root: Path | None, seed: int) -> Task:
    """The dataset of all trainings of this process."""
    return open_task(data, resolution=resolution, data_root=data_root, seed=seed)


def runs_of(folder: Path, name: str, seeds: Sequence[int]) -> list[RunFacts]:
    """The trainings of an architecture."""
    return [run_of(seed, load_network(folder / network_file(name, seed))) for seed in seeds]


def run_of(seed: int, trained: TrainedNetwork) -> RunFacts:
    """One training, as pages show it."""
    accuracies = {name: getattr(trained, f"{name}_accuracy") for name in ("best", "final", "initial")}
    return run_facts(seed, accuracies, trained.notes["curve"])


def measures_of(runs: Sequence[RunFacts]) -> dict[str, Any]:
    """Accuracies over seeds: each, mean, standard deviation, and half width of the 95 % interval."""
    measured = {}
    for name in ("final", "best", "initial"):
        values = [getattr(run, f"{name}_accuracy") for run in runs]
        measured[f"{name}_accuracy"] = {
            "seeds": {str(run.seed): value for run, value in zip(runs, values, strict=True)},
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            "interval": interval_of(values),
        }
    return measured


def interval_of(values: Sequence[float]) -> float | None:
    """Half width of the 95 % interval of a mean, by Student's t; None for one value."""
    if len(values) < 2:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))
