"""From what the steps know to what their pages show."""

import torch

from common.data.source import Source
from common.data.tasks import TaskPlan, sample_images
from common.report.facts import DatasetFacts, planned_facts
from common.spaces.mobilenet_v3 import MobileNetV3Space
from tans.artifacts import SpaceArtifact
from tans.report_inputs import RetrievedFacts
from tans.zoo_tables import NetworkRow

_SHOWN_SIDE = 32


def planned_dataset(source: Source, plan: TaskPlan, resolution: int) -> DatasetFacts:
    """A dataset that is not decoded but for a few training images of some classes."""
    names = [source.class_names[label] for label in plan.classes]
    return planned_facts(plan, names, sample_images(source, plan, _SHOWN_SIDE), resolution)


def retrieved_facts(
    row: NetworkRow, space: MobileNetV3Space, num_classes: int, cosine: float = 0.0, predicted: float = 0.0
) -> RetrievedFacts:
    """A network as pages show it, with a classifier for so many classes."""
    text = row.family
    if row.topology is not None:
        text = space.format(space.from_topologies(torch.tensor([row.topology]))[0])
    return RetrievedFacts(
        id=row.id,
        dataset=row.dataset,
        text=text,
        cosine=cosine,
        predicted=predicted,
        accuracy=row.accuracy,
        num_params=row.num_params + row.head(num_classes),
        macs=row.macs + row.feature_dim * num_classes,
    )


def space_card(artifact: SpaceArtifact) -> dict[str, str]:
    """What a page says of the encoders."""
    measures = artifact.notes.get("measures", {})
    card = {
        "Encoders": f"{artifact.id}, origin {artifact.origin}",
        "Learned from": ", ".join(artifact.sources) or "unknown",
        "Features": artifact.extractor,
        "Topologies": artifact.topology,
    }
    if "recall_1" in measures:
        card["Unseen images of the sources"] = (
            f"R@1 {100 * measures['recall_1']:.1f} %, mean rank {measures['mean_rank']:.2f}"
        )
    return card
