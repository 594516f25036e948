"""Random images of tasks, as their features: what both models see of a dataset.

Source: Lee et al., ICLR 2021, section 3.2; released code (20 images of each class, redrawn each time).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from common.experiment.config import StepConfig, UsageError
from common.features.cache import CACHE, features_of
from common.features.extractors import EXTRACTORS, Extractor, load_extractor
from common.features.sets import FeatureSet
from metad2a.database import MetaTask
from metad2a.feature_files import features_path, load_features

_PADDING = -1


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a dataset is seen through."""

    extractor: str = "resnet18-imagenet"
    """`compact` (comes with the repository), `resnet18-imagenet` (published; needs a download) or `random`."""
    weights: Path | None = None
    """File of the extractor's weights; none takes the one of its name."""
    max_per_class: int | None = None
    """Images of a class that draws are made from; none means all."""
    cache: Path = CACHE
    """Folder in which features are kept."""
    imported: Path | None = None
    """Folder of features that `import-official` brought in; no image is read of a set that has a file there."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.extractor not in EXTRACTORS:
            raise ValueError(f"extractor is {self.extractor!r}; known are {', '.join(EXTRACTORS)}")
        if self.max_per_class is not None and self.max_per_class < 1:
            raise ValueError(f"max_per_class is {self.max_per_class}: give 1 or more images, or none for all")

    def load(self) -> Extractor:
        """The extractor, on the CPU; errors as `load_extractor`."""
        return load_extractor(self.extractor, weights=self.weights)

    def held(self, name: str) -> FeatureSet | None:
        """Imported features of a set, where there are any."""
        file = None if self.imported is None else features_path(self.imported, name)
        return load_features(file) if file is not None and file.is_file() else None


class TaskDraws:
    """Draws for many tasks of a few source sets at once.

    Args:
        tasks: the tasks.
        sets: features of each source, by the name that the tasks call it.
        num_sample: images of a class in a draw.

    Raises:
        UsageError: a task has a class that its set does not have.
    """

    def __init__(self, tasks: Sequence[MetaTask], sets: Mapping[str, FeatureSet], num_sample: int) -> None:
        for task in tasks:
            if task.classes[-1] >= sets[task.source].num_classes:
                raise UsageError(
                    f"the database has a task of class {task.classes[-1]} of {task.source}, and the set in the data "
                    f"root has {sets[task.source].num_classes} classes: collect again with this data root"
                )
        self.sets = [sets[source] for source in dict.fromkeys(task.source for task in tasks)]
        self.num_sample = num_sample
        places = {source: place for place, source in enumerate(dict.fromkeys(task.source for task in tasks))}
        self.source = torch.tensor([places[task.source] for task in tasks])
        self.num_classes = torch.tensor([len(task.classes) for task in tasks])
        classes = [torch.tensor(task.classes) for task in tasks]
        self.classes = torch.nn.utils.rnn.pad_sequence(classes, batch_first=True, padding_value=_PADDING)  # (T, C)

    def draw(self, tasks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One draw for each task of a batch.

        Args:
            tasks: (B,) indices of tasks, which may repeat.
            generator: on the CPU.

        Returns:
            (B, C, S, D) features, C being the most classes of a task in the batch and the rest zeros, and (B,) int64
            numbers of classes; both where the features are.
        """
        num_classes = self.num_classes[tasks]
        classes = self.classes[tasks, : int(num_classes.max())]  # (B, C)
        like = self.sets[0].features
        features = like.new_zeros(*classes.shape, self.num_sample, like.shape[1])
        for place, held in enumerate(self.sets):
            rows, columns = ((self.source[tasks] == place)[:, None] & (classes != _PADDING)).nonzero(as_tuple=True)
            if len(rows):
                drawn = held.draw(1, self.num_sample, generator, classes[rows, columns])[0]
                features[rows.to(like.device), columns.to(like.device)] = drawn
        return features, num_classes.to(like.device)


def open_sets(
    names: Sequence[str], features: Features, *, cfg: StepConfig, device: torch.device
) -> dict[str, FeatureSet]:
    """Features of some datasets' training images, on the device; those that are not imported are computed once.

    Args:
        names: what `open_task` takes.
        features: extractor, number of images, and where features are kept.
        cfg: data root and seed.
        device: where to compute, and to have them.

    Raises:
        UsageError: imported features are of another network than the others.
        FileNotFoundError, ValueError: as `open_task` and `load_extractor`.
    """
    found = {name: features.held(name) for name in names}
    missing = [name for name, held in found.items() if held is None]
    extractor = features.load() if missing else None
    for name in missing:
        assert extractor is not None
        found[name] = open_features(name, features, extractor, cfg=cfg, device=device)
    sets = {name: replace(held, features=held.features.to(device)) for name, held in found.items() if held is not None}
    names_of = {held.extractor: name for name, held in sets.items()}
    if len(names_of) > 1:
        listed = ", ".join(f"{name} of {extractor}" for extractor, name in names_of.items())
        raise UsageError(f"features of the sources come from different networks ({listed}): take one for all of them")
    return sets


def open_features(
    name: str, features: Features, extractor: Extractor, *, cfg: StepConfig, device: torch.device
) -> FeatureSet:
    """Features of one dataset, from its images or the cache; see `open_sets`."""
    found = features_of(
        name,
        extractor=extractor,
        data_root=cfg.data_root,
        device=device,
        cache=features.cache,
        max_per_class=features.max_per_class,
        seed=cfg.seed,
    )
    return replace(found, features=found.features.to(device))
