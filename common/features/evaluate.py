"""Step `evaluate`: what a linear classifier reads from frozen features of datasets that no extractor has seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.data.dataset import ImageDataset
from common.data.open import open_dataset
from common.experiment.config import StepConfig
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.progress import track
from common.experiment.run import open_run
from common.features.extractors import EXTRACTORS, RESOLUTION, Extractor, embed, load_extractor
from common.features.normalisation import channel_statistics, published_statistics
from common.features.squeezenet import SqueezeNetFeatures, load_squeezenet

TABLE_FILE = "table.md"
_PENALTIES = np.logspace(0, 6, 13)
_BATCH = 128

Features = Callable[[ImageDataset], Tensor]
"""Features of all images of a dataset, (N, D) on the CPU."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StepConfig):
    """Linear probes: a ridge classifier on frozen features, on the test images of each dataset."""

    datasets: tuple[str, ...] = ("cifar10", "cifar100", "mnist", "cub", "dtd")
    """Known names, folders or packed files, each with a test part."""
    extractors: tuple[str, ...] = ("compact", "random")
    """Which extractors to compare."""
    compact: Path | None = None
    """File of the compact network; None takes the one that comes with the repository."""
    teacher: Path | None = None
    """Weights of SqueezeNet, which adds three rows: at 32 pixels, at 128 from 32, and at 128 from 64."""

    def __post_init__(self) -> None:
        """Check the names; raises ValueError."""
        unknown = [name for name in self.extractors if name not in EXTRACTORS]
        if unknown:
            raise ValueError(f"extractors has {', '.join(unknown)}: known are {', '.join(EXTRACTORS)}")
        if not self.datasets:
            raise ValueError("datasets is empty: name at least one")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of features."""

    name: str
    resolution: int
    """Pixels of the images it is given."""
    features: Features


def evaluate(cfg: EvaluateConfig) -> dict[str, Any]:
    """Run the step; returns accuracies by features and dataset."""
    folder = cfg.out or Path("exp", "features", "evaluate")
    with open_run(folder, program="common.features", step="evaluate", config=cfg, products=[TABLE_FILE]) as run:
        if run.result is None:
            print(f"linear probes on {', '.join(cfg.datasets)}, into {folder}", flush=True)
            accuracies: dict[str, dict[str, float]] = {}
            for row in _rows(cfg, resolve_device(cfg.gpu)):
                accuracies[row.name] = {name: _probe(cfg, row, name) for name in track(cfg.datasets)}
            write_text(folder / TABLE_FILE, table(accuracies))
            run.finish({"accuracy": accuracies})
        assert run.result is not None
        print(table(run.result["accuracy"]), end="")
    return run.result


def table(accuracies: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a line for each kind of features, a column for each dataset, percent."""
    datasets = list(next(iter(accuracies.values())))
    head = ["| features | " + " | ".join(datasets) + " |", "|---|" + "---:|" * len(datasets)]
    lines = [
        f"| {name} | " + " | ".join(f"{100 * values[dataset]:.1f}" for dataset in datasets) + " |"
        for name, values in accuracies.items()
    ]
    return "\n".join([*head, *lines]) + "\n"


def _rows(cfg: EvaluateConfig, device: torch.device) -> list[Row]:
    rows = []
    for name in cfg.extractors:
        extractor = load_extractor(name, weights=cfg.compact if name == "compact" else None).to(device)
        rows.append(Row(name=extractor.id, resolution=RESOLUTION, features=partial(_embedded, extractor, device)))
    if cfg.teacher is not None:
        teacher = load_squeezenet(cfg.teacher).to(device)
        for given, seen in ((32, 32), (32, 128), (64, 128)):
            features = partial(_seen_by_squeezenet, teacher, seen, device)
            rows.append(Row(name=f"SqueezeNet, {given} px seen at {seen}", resolution=given, features=features))
    return rows


def _embedded(extractor: Extractor, device: torch.device, dataset: ImageDataset) -> Tensor:
    training = torch.cat([dataset.train, dataset.valid])
    mean, std = published_statistics(dataset.name) or channel_statistics(dataset.images[training])
    return embed(extractor, dataset.images, mean, std, device=device)


def _seen_by_squeezenet(
    teacher: SqueezeNetFeatures, resolution: int, device: torch.device, dataset: ImageDataset
) -> Tensor:
    return torch.cat([teacher(part.to(device), resolution).cpu() for part in torch.split(dataset.images, _BATCH)])


def _probe(cfg: EvaluateConfig, row: Row, name: str) -> float:
    dataset = open_dataset(name, resolution=row.resolution, data_root=cfg.data_root, seed=cfg.seed)
    if len(dataset.test) == 0:
        raise ValueError(f"{name} has no test part: choose another dataset")
    features = row.features(dataset)
    training = torch.cat([dataset.train, dataset.valid])
    return linear_probe(
        features[training].numpy(),
        dataset.labels[training].numpy(),
        features[dataset.test].numpy(),
        dataset.labels[dataset.test].numpy(),
    )


def linear_probe(
    train_features: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    test_features: NDArray[np.float32],
    test_labels: NDArray[np.int64],
) -> float:
    """Test accuracy of a ridge classifier on standardised features; leave-one-out chooses its penalty.

    Args:
        train_features: (N, D).
        train_labels: (N,).
        test_features: (M, D).
        test_labels: (M,).

    Returns:
        In [0, 1].
    """
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_features)
    classifier = RidgeClassifierCV(alphas=_PENALTIES).fit(scaler.transform(train_features), train_labels)
    return float(classifier.score(scaler.transform(test_features), test_labels))
