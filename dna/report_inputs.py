"""What the pages of `dna.report` are made of: plain facts, gathered by the steps.

Accuracies are fractions in [0, 1]; costs are of one image's forward pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.report import Curve
from common.report.facts import DatasetFacts, RunFacts
from dna.archs import DnaArch
from dna.potentials import Potential


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherFacts:
    """The training of a teacher."""

    dataset: DatasetFacts
    model: str
    num_params: int
    run: RunFacts
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MetaTrainFacts:
    """The training of a supernet."""

    dataset: str
    teacher: str
    num_params: int
    training: Mapping[str, Curve]
    """Block -> mean squared error over its epochs."""
    validation: Mapping[str, Curve]
    """The same of random paths on held-out images."""
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class RateFacts:
    """The ratings of all blocks."""

    dataset: str
    num_images: int
    potentials: Sequence[Sequence[Potential]]
    """Of the cells of each stage."""
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FoundFacts:
    """A network that was found or drawn."""

    arch: DnaArch
    rating: float
    """Sum over the stages; smaller is better."""
    ratings: Sequence[float]
    """Of each stage."""
    macs: int
    official_macs: int
    num_params: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchFacts:
    """A search."""

    data: str
    bounds: Mapping[str, int]
    networks: Sequence[FoundFacts]
    """Best first."""
    front: Sequence[tuple[int, float]]
    """(MACs, rating) of the networks that no other beats."""
    random: Sequence[tuple[int, float]]
    """The same of networks drawn at random."""
    ratings: Sequence[Sequence[NDArray[np.float64]]]
    """Of all paths of the cells of each stage."""
    seconds: float
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainedFacts:
    """A network with its trainings."""

    name: str
    network: FoundFacts
    runs: Sequence[RunFacts]

    @property
    def accuracy(self) -> float:
        """Mean of the final accuracies."""
        return sum(run.final_accuracy for run in self.runs) / len(self.runs)


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrainFacts:
    """The training of a chosen network."""

    dataset: DatasetFacts
    chosen: TrainedFacts
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """How well something orders trained networks: rank correlations with their accuracy."""

    name: str
    kendall: float
    spearman: float


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluateFacts:
    """The found network beside others that were trained the same way."""

    dataset: str
    found: TrainedFacts
    equal: Sequence[TrainedFacts]
    """Random networks of the same cost."""
    spread: Sequence[TrainedFacts]
    """Random networks of any cost."""
    rankings: Sequence[Ranking]
    """Over all of them, then over those of equal cost."""
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
