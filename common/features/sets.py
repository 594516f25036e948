"""Features of a dataset's training images, grouped by class, and random samples of them."""

import logging
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_KEYS_AT_ONCE = 2**22  # random numbers drawn together: 16 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSet:
    """Features of the training images of a task, class after class."""

    extractor: str
    """Id of the extractor, `compact-1a2b3c4d`."""
    source: str
    """Id of the task, `cifar100/0-39`."""
    description: str
    """One line that says which part of the set this is."""
    features: Tensor
    """(M, D) float32."""
    labels: Tensor
    """(M,) int64, not falling: 0, 0, ..., 1, ..."""
    class_names: tuple[str, ...]
    """Name of each class."""
    _warnings: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the shapes and the order of the labels; raises ValueError."""
        if self.features.ndim != 2 or self.labels.shape != (len(self.features),):
            raise ValueError(
                f"{self.source}: features {tuple(self.features.shape)} and labels {tuple(self.labels.shape)} are "
                "needed as (M, D) and (M,)"
            )
        falls = bool((self.labels.diff() < 0).any())
        if len(self.labels) and (falls or self.labels[0] < 0 or self.labels[-1] >= self.num_classes):
            raise ValueError(f"{self.source}: labels must rise from 0 to {self.num_classes - 1}, class after class")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def counts(self) -> Tensor:
        """(num_classes,) int64, images of each class."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    def draw(
        self, num_draws: int, num_sample: int, generator: torch.Generator, classes: Tensor | None = None
    ) -> Tensor:
        """Random images of each class, drawn anew for every draw.

        A class with enough images is drawn from uniformly without replacement. One with fewer than `num_sample` is
        drawn from with replacement, with one warning in the life of this object.

        Args:
            num_draws: independent draws, at least 1.
            num_sample: images of a class in a draw, at least 1.
            generator: on the CPU.
            classes: (C,) int64, the classes to draw from, in the order of the result; None takes all.

        Returns:
            (num_draws, C, num_sample, D), where the features are.

        Raises:
            ValueError: a class has no image (the message names it) or does not exist, or a number is below 1.
        """
        if num_draws < 1 or num_sample < 1:
            raise ValueError(f"num_draws is {num_draws} and num_sample {num_sample}: both must be at least 1")
        chosen = torch.arange(self.num_classes) if classes is None else classes.cpu()
        counts = self._checked_counts(chosen, num_sample)
        starts = (self.counts.cumsum(0) - self.counts).cpu()[chosen]
        per_draw = len(chosen) * int(counts.max())
        groups = torch.split(torch.arange(num_draws), max(1, _KEYS_AT_ONCE // per_draw))
        places = torch.cat([_draw_places(len(group), num_sample, counts, generator) for group in groups])
        rows = starts[None, :, None] + places  # (num_draws, C, num_sample)
        return self.features[rows.to(self.features.device)]

    def _checked_counts(self, classes: Tensor, num_sample: int) -> Tensor:
        """Images of each chosen class; refuses empty ones and warns of small ones."""
        if classes.ndim != 1 or len(classes) == 0:
            raise ValueError(f"{self.source}: classes must be a list of at least one, got {tuple(classes.shape)}")
        if classes.min() < 0 or classes.max() >= self.num_classes:
            raise ValueError(f"{self.source} has classes 0 to {self.num_classes - 1}, asked for {classes.tolist()}")
        counts = self.counts.cpu()[classes]
        if (counts == 0).any():
            names = [self.class_names[index] for index in classes[counts == 0].tolist()]
            raise ValueError(f"{self.source} has no image of class {', '.join(names[:5])}: add some, or leave it out")
        if (counts < num_sample).any() and not self._warnings:
            self._warnings.append(
                f"{self.source}: {int((counts < num_sample).sum())} classes have fewer than {num_sample} images (the "
                f"smallest has {int(counts.min())}): theirs are drawn with replacement"
            )
            logger.warning(self._warnings[0])
        return counts


def _draw_places(num_draws: int, num_sample: int, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Positions within each class: the smallest of random keys, or plain random positions in a small class.

    Returns:
        (num_draws, C, num_sample) int64, each below its class's count.
    """
    longest = int(counts.max())
    shape = (num_draws, len(counts))
    uniform = torch.rand(*shape, num_sample, generator=generator)
    repeated = (uniform * counts[:, None]).long().clamp_(max=counts[:, None] - 1)
    if longest < num_sample:
        return repeated
    keys = torch.rand(*shape, longest, generator=generator)
    keys.masked_fill_(torch.arange(longest) >= counts[:, None], 2.0)
    distinct = keys.topk(num_sample, dim=2, largest=False, sorted=False).indices
    return torch.where((counts < num_sample)[:, None], repeated, distinct)
