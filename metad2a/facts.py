"""From what the steps know to what their pages show."""

from collections.abc import Mapping
from typing import Any

from common.data.source import Source
from common.data.tasks import TaskPlan, sample_images
from common.features.sets import FeatureSet
from common.report.facts import DatasetFacts, planned_facts
from common.spaces.nasbench201 import Cell
from common.spaces.nasbench201_classes import is_connected
from common.spaces.nasbench201_table import AccuracyTable
from metad2a.artifacts import Artifact, Pair
from metad2a.report_inputs import ArchFacts
from metad2a.spaces import Arch

RESOLUTION = 32
"""Side of the images that features, and costs where no other is said, are of."""


def arch_facts(
    arch: Arch,
    space: Any,
    num_classes: int,
    *,
    resolution: int = RESOLUTION,
    score: float | None = None,
    table: AccuracyTable | None = None,
    accuracy: float | None = None,
    rank: int | None = None,
) -> ArchFacts:
    """An architecture with its cost in a space, and what is known of it."""
    cost = space.cost(arch, num_classes, resolution)
    cell = arch if isinstance(arch, Cell) else None
    return ArchFacts(
        text=space.format(arch),
        edges=() if cell is None else cell.edges,
        stages=() if isinstance(arch, Cell) else arch.stages,
        num_params=cost.num_params,
        macs=cost.macs,
        is_connected=cell is None or is_connected(cell),
        score=score,
        index=None if table is None or cell is None else table.index(cell),
        accuracy=accuracy,
        rank=rank,
    )


def planned_dataset(source: Source, plan: TaskPlan) -> DatasetFacts:
    """A dataset that is not decoded but for a few training images of some classes."""
    names = [source.class_names[label] for label in plan.classes]
    return planned_facts(plan, names, sample_images(source, plan, RESOLUTION), RESOLUTION)


def held_dataset(features: FeatureSet) -> DatasetFacts:
    """A dataset of which only features are there."""
    return DatasetFacts(
        name=features.source,
        description=features.description,
        class_names=features.class_names,
        num_train=len(features.labels),
        num_evaluation=0,
        resolution=RESOLUTION,
    )


def pair_card(pair: Pair) -> dict[str, str]:
    """What a page says of the models."""
    return {
        "Folder": str(pair.folder),
        "Learned from": ", ".join(pair.sources) or "unknown",
        "Labels": str(pair.predictor.notes.get("labels", "unknown")),
        "Networks of the labels": pair.predictor.space_name,
        "Features": pair.generator.extractor,
        "Generator": _model_card(pair.generator),
        "Predictor": _model_card(pair.predictor),
    }


def _model_card(artifact: Artifact[Any]) -> str:
    valid: Mapping[str, Any] = artifact.notes.get("valid", {})
    measures = [
        f"{name} {valid[name]:.3f}" for name in ("validity", "canonical", "spearman", "pearson") if name in valid
    ]
    width = f"width {artifact.model.sizes.hidden_dim}"
    return ", ".join([width, f"origin {artifact.origin}", *(f"on held-out tasks: {text}" for text in measures)])
