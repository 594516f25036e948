"""The predictor: the accuracy of an architecture on a data set, without training it.

Source: Lee et al., "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021, section
3.3 and released code.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.experiment.seeds import derive_seed
from common.graphs import DagBatch, GraphEncoder, GraphSizes
from common.sets import ClassSetEncoder

_SCALE = 100
"""Targets are standard scores divided by this, in the released code and in its checkpoints."""


@dataclass(frozen=True, kw_only=True)
class PredictorSizes:
    """Sizes of a predictor; the defaults are those published for NAS-Bench-201."""

    num_types: int = 7
    """Vertex types, START and END among them; released name nvt."""
    max_nodes: int = 8
    """Vertices of the largest graph."""
    hidden_dim: int = 512
    """Width of a vertex's state and of the hidden layer of the head; released name hs."""
    embedding_dim: int = 56
    """Width of the vectors of data sets and of graphs, a multiple of 4 (attention heads); released name nz."""
    feature_dim: int = 512
    """Width of the images' features."""

    @property
    def graphs(self) -> GraphSizes:
        """Sizes of the graph encoder."""
        return GraphSizes(num_types=self.num_types, max_nodes=self.max_nodes, hidden_dim=self.hidden_dim)


class Predictor(nn.Module):
    """Scores pairs of a data set and an architecture; `Normaliser` makes accuracies of scores."""

    def __init__(self, sizes: PredictorSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.set_encoder = ClassSetEncoder(sizes.feature_dim, sizes.embedding_dim)
        self.graph_encoder = GraphEncoder(sizes.graphs)
        self.graph_embedding = nn.Linear(sizes.hidden_dim, sizes.embedding_dim)
        self.head_hidden = nn.Linear(2 * sizes.embedding_dim, sizes.hidden_dim)  # of [data set ; graph]
        self.head_output = nn.Linear(sizes.hidden_dim, 1)

    def encode_sets(self, features: Tensor, num_classes: Tensor | None = None) -> Tensor:
        """Vectors of data sets: see `ClassSetEncoder`; -> (B, embedding_dim)."""
        vectors: Tensor = self.set_encoder(features, num_classes)
        return vectors

    def encode_graphs(self, graphs: DagBatch) -> Tensor:
        """Vectors of M graphs: -> (M, embedding_dim), a row depending on no other."""
        vectors: Tensor = self.graph_embedding(self.graph_encoder(graphs))
        return vectors

    def score(self, sets: Tensor, graphs: Tensor) -> Tensor:
        """Normalised accuracies of architectures on data sets.

        All axes but the last are broadcast: (B, Z) and (B, Z) give the scores (B,) of pairs, while `sets[:, None]` and
        `graphs`, (B, 1, Z) and (M, Z), give those of all combinations, (B, M).

        Args:
            sets: (..., embedding_dim) of `encode_sets`.
            graphs: (..., embedding_dim) of `encode_graphs`.

        Returns:
            (...) scores, see `Normaliser`.
        """
        of_sets, of_graphs = self.head_hidden.weight.chunk(2, 1)
        first = functional.linear(sets, of_sets, self.head_hidden.bias)
        hidden = (first + functional.linear(graphs, of_graphs)).tanh()
        scores: Tensor = self.head_output(hidden)
        return scores[..., 0]


@dataclass(frozen=True)
class Normaliser:
    """What a predictor learns in place of accuracies: (accuracy - mean) / deviation / 100.

    Attributes:
        mean: of the training rows' accuracies, fractions in [0, 1].
        deviation: their standard deviation, with n - 1 in the denominator.

    Raises:
        ValueError: the deviation is not positive.
    """

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        """Check the deviation."""
        if not self.deviation > 0:
            raise ValueError(
                f"accuracies deviate by {self.deviation}: a predictor needs at least two rows of different accuracy"
            )

    @classmethod
    def of(cls, accuracies: Tensor) -> Self:
        """The one of a training set's accuracies (R,)."""
        values = accuracies.double()
        return cls(float(values.mean()), float(values.std()) if len(values) > 1 else 0.0)

    def scores(self, accuracies: Tensor) -> Tensor:
        """Targets of a predictor."""
        return (accuracies - self.mean) / (self.deviation * _SCALE)

    def accuracies(self, scores: Tensor) -> Tensor:
        """What `scores` is the inverse of: fractions, though a prediction may leave [0, 1]."""
        return scores * (self.deviation * _SCALE) + self.mean


def new_predictor(sizes: PredictorSizes, seed: int) -> Predictor:
    """A freshly initialised predictor; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "predictor"))
        return Predictor(sizes)
