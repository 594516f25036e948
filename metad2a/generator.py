"""The generator: a distribution over cells' graphs, given a data set.

Source: Lee et al., "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021, section
3.2 and released code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.experiment.seeds import derive_seed
from common.graphs import DagBatch, GraphDecoder, GraphSizes
from common.sets import ClassSetEncoder

NOISE_SCALE = 0.01
"""Factor on the deviation of latent vectors in training, as in the released code: decoding hardly sees the noise."""


@dataclass(frozen=True, kw_only=True)
class GeneratorSizes:
    """Sizes of a generator; the defaults are those published for NAS-Bench-201.

    Raises:
        ValueError: the two widths differ.
    """

    num_types: int = 7
    """Vertex types, START and END among them; released name nvt."""
    max_nodes: int = 8
    """Vertices of the largest graph."""
    hidden_dim: int = 56
    """Width of a vertex's state; released name hs."""
    latent_dim: int = 56
    """Width of latent vectors and of the set encoder, a multiple of 4 (its attention heads); released name nz."""
    feature_dim: int = 512
    """Width of the images' features."""

    def __post_init__(self) -> None:
        """Check the widths."""
        if self.hidden_dim != self.latent_dim:
            raise ValueError(
                f"a generator of hidden_dim {self.hidden_dim} and latent_dim {self.latent_dim}: the two must be equal, "
                "as the layers that make latent vectors of width latent_dim take vectors of width hidden_dim"
            )

    @property
    def graphs(self) -> GraphSizes:
        """Sizes of the decoder."""
        return GraphSizes(num_types=self.num_types, max_nodes=self.max_nodes, hidden_dim=self.hidden_dim)


class Generator(nn.Module):
    """Draws graphs of architectures that should do well on a data set, from features of some of its images."""

    def __init__(self, sizes: GeneratorSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.set_encoder = ClassSetEncoder(sizes.feature_dim, sizes.latent_dim)
        self.mean = nn.Linear(sizes.hidden_dim, sizes.latent_dim)
        self.log_variance = nn.Linear(sizes.hidden_dim, sizes.latent_dim)
        self.decoder = GraphDecoder(sizes.graphs, sizes.latent_dim)

    def latent(self, features: Tensor, num_classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent vectors of data sets.

        Args:
            features: (B, C, S, feature_dim), see `ClassSetEncoder`.
            num_classes: (B,) int64, or None where all have C.

        Returns:
            (B, latent_dim) and (B, latent_dim).
        """
        encoded = self.set_encoder(features, num_classes)
        return self.mean(encoded), self.log_variance(encoded)

    def loss(
        self, features: Tensor, num_classes: Tensor | None, graphs: DagBatch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Both terms of the training loss, which is the sum over the batch of the first + 0.005 x the second.

        Args:
            features: (B, C, S, feature_dim), see `ClassSetEncoder`.
            num_classes: (B,) int64, or None where all have C.
            graphs: B graphs of good architectures, one for each data set.
            generator: of the latent noise, on the CPU.

        Returns:
            (B,) negative log-likelihood of the graphs and (B,) divergence of the latent distribution from the standard
            normal one, in nats.
        """
        mean, log_variance = self.latent(features, num_classes)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        latent = mean + (log_variance / 2).exp() * NOISE_SCALE * noise
        return self.decoder.loss(latent, graphs), kl_divergence(mean, log_variance)

    @torch.no_grad()
    def sample(self, features: Tensor, num_classes: Tensor | None, generator: torch.Generator) -> DagBatch:
        """Draw one graph for each data set, from the mean of its latent distribution.

        Args:
            features: (B, C, S, feature_dim), see `ClassSetEncoder`; several draws of one set's images give variety.
            num_classes: (B,) int64, or None where all have C.
            generator: on the CPU, see `GraphDecoder.sample`.
        """
        mean, _ = self.latent(features, num_classes)
        return self.decoder.sample(mean, generator)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence of N(mean, exp(log_variance)) from the standard normal distribution: (B, Z), (B, Z) -> (B,) nats."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)


def new_generator(sizes: GeneratorSizes, seed: int) -> Generator:
    """A freshly initialised generator; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "generator"))
        return Generator(sizes)
