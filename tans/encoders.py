"""Query encoder, model encoder and performance predictor: one linear layer each.

Source: Jeong et al., NeurIPS 2021, released code (`retrieval/nets.py`); parameters have the same names and shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = 1e-12
"""Least norm that a vector is divided by; the released code has none for its outputs: a zero vector gives NaN."""


@dataclass(frozen=True, kw_only=True)
class SpaceSizes:
    """Widths of the vectors that go into the cross-modal space, and of those in it."""

    image_dim: int = 512
    """Numbers of one image's features."""
    topology_dim: int = 45
    """Numbers of a topology; 0 leaves topologies out."""
    functional_dim: int = 1536
    """Numbers of a functional embedding; 0 leaves them out."""
    embedding_dim: int = 128
    """Width of the space; released name n-dims."""
    branches: Literal["joint", "separate"] = "joint"
    """joint: topology and functional embedding are normalised as one vector, as published; separate: each for itself,
    so that neither drowns the other."""

    def __post_init__(self) -> None:
        """Check the widths.

        Raises:
            ValueError: a width is not positive, or networks are described by nothing.
        """
        for name in ("image_dim", "embedding_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if min(self.topology_dim, self.functional_dim) < 0 or self.model_dim == 0:
            raise ValueError(
                f"topology_dim {self.topology_dim} and functional_dim {self.functional_dim}: 0 or more each, and one "
                "of them positive"
            )

    @property
    def model_dim(self) -> int:
        """Numbers that describe a network."""
        return self.topology_dim + self.functional_dim


class QueryEncoder(nn.Module):
    """From a dataset's features to a unit vector.

    It is affine before the mean over images, so it takes the mean feature of each dataset instead of all its images:
    the order of images and the repetition of a whole set change nothing.
    """

    def __init__(self, sizes: SpaceSizes) -> None:
        super().__init__()
        self.fc = nn.Linear(sizes.image_dim, sizes.embedding_dim)

    def forward(self, means: Tensor) -> Tensor:  # (B, image_dim) -> (B, embedding_dim)
        """Unit vectors of datasets whose mean features are given; see `mean_features`."""
        return F.normalize(self.fc(means), dim=1, eps=FLOOR)


def mean_features(sets: Sequence[Tensor]) -> Tensor:
    """Mean feature of each dataset; here the order of its images is forgotten.

    Args:
        sets: (n_i, D) each; they may differ in length.

    Returns:
        (len(sets), D) float32.

    Raises:
        ValueError: there is no set, a set has no image, or they differ in D.
    """
    if not sets or any(one.ndim != 2 or len(one) == 0 for one in sets) or len({one.shape[1] for one in sets}) > 1:
        shapes = ", ".join(str(tuple(one.shape)) for one in sets) or "none"
        raise ValueError(f"features of datasets are {shapes}: (images, D) is needed, with one image or more and one D")
    return torch.stack([one.double().mean(0).float() for one in sets])


class ModelEncoder(nn.Module):
    """From a network's description to a unit vector."""

    def __init__(self, sizes: SpaceSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.fc = nn.Linear(sizes.model_dim, sizes.embedding_dim)

    def describe(self, topologies: Tensor, functional: Tensor) -> Tensor:
        """The normalised vectors that `forward` takes: topology first, then functional embedding.

        They do not depend on any weight, so they are made once for a whole zoo.

        Args:
            topologies: (N, 45) or more columns, raw numbers; not read where topology_dim is 0.
            functional: (N, functional_dim); not read where that is 0.

        Returns:
            (N, model_dim) float32.

        Raises:
            ValueError: a width is not that of the sizes.
        """
        parts = []
        for name, width, part in (
            ("topologies", self.sizes.topology_dim, topologies),
            ("functional embeddings", self.sizes.functional_dim, functional),
        ):
            if width == 0:
                continue
            if part.ndim != 2 or part.shape[1] != width:
                raise ValueError(f"{name} have shape {tuple(part.shape)}, and (N, {width}) is needed")
            parts.append(part.float())
        if self.sizes.branches == "separate":
            parts = [F.normalize(part, dim=1, eps=FLOOR) for part in parts]
        return F.normalize(torch.cat(parts, 1), dim=1, eps=FLOOR)

    def forward(self, described: Tensor) -> Tensor:  # (B, model_dim) -> (B, embedding_dim)
        """Unit vectors of networks, from what `describe` returns."""
        return F.normalize(self.fc(described), dim=1, eps=FLOOR)


class PerformancePredictor(nn.Module):
    """From a dataset's and a network's unit vectors to the accuracy that the network has on the dataset."""

    def __init__(self, sizes: SpaceSizes) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * sizes.embedding_dim, 1)

    def forward(self, queries: Tensor, models: Tensor) -> Tensor:  # twice (B, embedding_dim) -> (B,)
        """Predicted accuracies in (0, 1), pair by pair."""
        return torch.sigmoid(self.fc(torch.cat([queries, models], 1)).squeeze(1))


class CrossModalSpace(nn.Module):
    """The three networks, and how image features are standardised before the first of them.

    Args:
        sizes: widths.
        feature_mean: (image_dim,) taken off each mean feature; None takes off nothing, as published.
        feature_std: (image_dim,) that it is divided by; None leaves it.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self, sizes: SpaceSizes, feature_mean: Tensor | None = None, feature_std: Tensor | None = None
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.query, self.model, self.predictor = QueryEncoder(sizes), ModelEncoder(sizes), PerformancePredictor(sizes)
        mean = torch.zeros(sizes.image_dim) if feature_mean is None else feature_mean
        std = torch.ones(sizes.image_dim) if feature_std is None else feature_std
        self.register_buffer("feature_mean", mean.clone())
        self.register_buffer("feature_std", std.clone())

    def encode_queries(self, means: Tensor) -> Tensor:  # (B, image_dim) -> (B, embedding_dim)
        """Unit vectors of datasets, from the plain means of their features."""
        vectors: Tensor = self.query((means - self.feature_mean) / self.feature_std)
        return vectors

    def encode_models(self, described: Tensor) -> Tensor:  # (B, model_dim) -> (B, embedding_dim)
        """Unit vectors of networks, from `self.model.describe`."""
        vectors: Tensor = self.model(described)
        return vectors

    def predict(self, queries: Tensor, models: Tensor) -> Tensor:  # twice (B, embedding_dim) -> (B,)
        """Predicted accuracies of pairs of unit vectors."""
        accuracies: Tensor = self.predictor(queries, models)
        return accuracies


def new_space(
    sizes: SpaceSizes, seed: int, feature_mean: Tensor | None = None, feature_std: Tensor | None = None
) -> CrossModalSpace:
    """A space with PyTorch's default initial weights, which depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CrossModalSpace(sizes, feature_mean, feature_std)
