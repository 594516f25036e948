"""What datasets are seen through: mean features of each class, by a frozen network.

Source: Jeong et al., NeurIPS 2021 (a ResNet-18 trained on ImageNet, its 512 pooled numbers an image).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.experiment.config import UsageError
from common.features.cache import CACHE, Part, features_of
from common.features.extractors import EXTRACTORS, Extractor, load_extractor
from common.features.sets import FeatureSet

PARTITIONS: dict[str, Part] = {"train": "train", "test": "evaluation"}


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a dataset is seen through."""

    extractor: str = "resnet18-imagenet"
    """`compact` (comes with the repository), `resnet18-imagenet` (published; needs a download) or `random`."""
    weights: Path | None = None
    """File of the extractor's weights; none takes the one of its name."""
    max_per_class: int | None = None
    """Images of a class that stand for it; none means all."""
    cache: Path = CACHE
    """Folder in which features are kept."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.extractor not in EXTRACTORS:
            raise ValueError(f"extractor is {self.extractor!r}; known are {', '.join(EXTRACTORS)}")
        if self.max_per_class is not None and self.max_per_class < 1:
            raise ValueError(f"max_per_class is {self.max_per_class}: give 1 or more images, or none for all")

    def load(self) -> Extractor:
        """The extractor, on the CPU; errors as `load_extractor`."""
        return load_extractor(self.extractor, weights=self.weights)

    def of(
        self, data: str, extractor: Extractor, *, data_root: Path | None, device: torch.device, part: Part, seed: int
    ) -> FeatureSet:
        """Features of a dataset; errors as `features_of`."""
        return features_of(
            data,
            extractor=extractor,
            data_root=data_root,
            device=device,
            cache=self.cache,
            max_per_class=self.max_per_class,
            seed=seed,
            part=part,
        )


def class_means(found: FeatureSet) -> tuple[Tensor, Tensor]:
    """Number of images (C,) int64 and mean feature (C, D) of each class that has an image."""
    counts = torch.zeros(found.num_classes, dtype=torch.int64).index_add_(
        0, found.labels, torch.ones_like(found.labels)
    )
    sums = torch.zeros(found.num_classes, found.features.shape[1], dtype=torch.float64)
    sums.index_add_(0, found.labels, found.features.double())
    there = counts > 0
    return counts[there], (sums[there] / counts[there][:, None]).float()


def check_extractor(wanted: str, found: str) -> None:
    """Refuse features of another network than the zoo's.

    Raises:
        UsageError: naming both, and the flag that helps.
    """
    if wanted != found and not (wanted in EXTRACTORS and found.startswith(wanted)):  # official zoos know only the name
        name = wanted.rpartition("-")[0] or wanted
        raise UsageError(
            f"the zoo sees datasets through {wanted}, and these features are of {found}: give --features.extractor "
            f"{name} (with --features.weights where its weights are not the ones of that name), or another zoo"
        )
