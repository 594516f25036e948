"""Small databases, features and pairs for the tests of MetaD2A."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.features.sets import FeatureSet
from common.spaces.nasbench201 import NasBench201Space
from metad2a.artifacts import Artifact, Pair, load_pair, save_artifact
from metad2a.database import MetaDatabase, MetaTask
from metad2a.generator import GeneratorSizes, new_generator
from metad2a.predictor import PredictorSizes, new_predictor

SPACE = NasBench201Space()
WIDTH = 12


def _make_set(source: str, counts: tuple[int, ...] = (6, 9, 7, 5), *, seed: int = 0) -> FeatureSet:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    features = torch.rand(len(labels), WIDTH, generator=torch.Generator().manual_seed(seed)) + labels[:, None]
    return FeatureSet(
        extractor="random-0123abcd",
        source=source,
        description=f"{source}, made up",
        features=features,
        labels=labels,
        class_names=tuple(f"{source} {index}" for index in range(len(counts))),
    )


def _make_database(num_cells: int = 6, *, seed: int = 0) -> MetaDatabase:
    """Four tasks to learn from and two that select; what is 3x3 convolution counts, and `hills` are harder."""
    tasks = (
        MetaTask("hills", (0, 2)),
        MetaTask("lakes", (0, 1, 3)),
        MetaTask("hills", (1, 2, 3)),
        MetaTask("lakes", (2, 3)),
        MetaTask("hills", (0, 3)),
        MetaTask("lakes", (1, 2)),
    )
    random = torch.Generator().manual_seed(seed)
    rows = len(tasks) * num_cells
    operations = torch.randint(5, (rows, 6), generator=random)
    task_index = torch.arange(len(tasks)).repeat_interleave(num_cells)
    noise = 0.01 * torch.rand(rows, generator=random)
    hard = torch.tensor([task.source == "hills" for task in tasks])[task_index]
    return MetaDatabase(
        tasks=tasks,
        task_index=task_index,
        codes=operations,
        accuracy=0.5 + 0.05 * (operations == 3).sum(1) + noise - 0.3 * hard,
        is_valid=task_index >= 4,
        space_name=SPACE.name,
        meta={"labels": "table"},
    )


@pytest.fixture
def make_set() -> Callable[..., FeatureSet]:
    """Makes features of a dataset whose classes differ."""
    return _make_set


@pytest.fixture
def make_database() -> Callable[..., MetaDatabase]:
    """Makes a database of two sources."""
    return _make_database


@pytest.fixture
def sets() -> dict[str, FeatureSet]:
    """Features of the database's sources."""
    return {"hills": _make_set("hills", seed=1), "lakes": _make_set("lakes", seed=2)}


def _make_pair(folder: Path, **changes: object) -> Pair:
    """Untrained models in a folder of its own; changes are fields of both artifacts."""
    fields: dict[str, object] = {
        "space_name": SPACE.name,
        "extractor": "random-0123abcd",
        "sources": ("hills", "lakes"),
        "num_sample": 3,
        "training_cells": torch.tensor([3, 77, 15_624]),
        "normaliser": None,
        "origin": "metad2a",
        "notes": {"labels": "table"},
    } | changes
    generator = new_generator(GeneratorSizes(hidden_dim=8, latent_dim=8, feature_dim=WIDTH), 0)
    predictor = new_predictor(PredictorSizes(hidden_dim=10, embedding_dim=8, feature_dim=WIDTH), 0)
    for model in (generator, predictor):
        artifact: Artifact[object] = Artifact(model=model, **fields)  # type: ignore[arg-type]
        save_artifact(folder / f"{artifact.kind}.safetensors", artifact)
    return load_pair(folder)


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    """Writes an untrained pair into a folder, and reads it."""
    return _make_pair
