"""What the pages of `tans.report` are made of: plain facts, gathered by the steps.

Accuracies are fractions in [0, 1]; costs are of one image's forward pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from common.report import Curve
from common.report.facts import DatasetFacts, PredictionFacts, RunFacts


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceFacts:
    """A source of a zoo with its networks."""

    name: str
    description: str
    num_classes: int
    supernet_accuracy: float | None
    """Of the supernet's largest network."""
    accuracies: Tensor
    """(n,) of its networks."""
    num_params: Sequence[int]
    """n numbers, without classifiers."""
    hypervolume: float
    """Area under the best accuracy at each cost, as a share."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BuildFacts:
    """A zoo that was built."""

    sources: Sequence[SourceFacts]
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpaceMap:
    """Datasets and networks of a cross-modal space in the plane."""

    names: Sequence[str]
    """K datasets."""
    networks: Tensor
    """(N, 2)."""
    owners: Tensor
    """(N,) places among the names."""
    queries: Tensor
    """(K, 2) of the datasets."""
    new_query: Tensor | None = None
    """(2,) of the dataset that is searched for."""
    retrieved: Sequence[int] = ()
    """Places among the networks, nearest first."""
    share: float = 0.0
    """Of the variance that the plane holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaTrainFacts:
    """A meta-training of the cross-modal space."""

    losses: Mapping[str, Curve]
    """Name of a loss -> its course."""
    validation: Mapping[str, Curve]
    """Measure on unseen images of the sources -> its course."""
    kept: Mapping[str, float]
    """Measures of the state that was kept, on fresh draws."""
    chance: Mapping[str, float]
    """The same measures of random vectors."""
    map: SpaceMap
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RetrievedFacts:
    """A network that a search found."""

    id: int
    dataset: str
    """What it was trained on."""
    text: str
    """Its architecture."""
    cosine: float
    predicted: float
    """Predicted accuracy on the searched dataset; relative, see the page's note."""
    accuracy: float
    """On its own dataset."""
    num_params: int
    """With a classifier for the searched dataset."""
    macs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchFacts:
    """A search on one dataset."""

    dataset: DatasetFacts
    retrieved: Sequence[RetrievedFacts]
    """Nearest first."""
    chosen: Sequence[int]
    """Places among them, the one to train first."""
    num_networks: int
    num_feasible: int
    bounds: Mapping[str, str]
    map: SpaceMap
    seconds: Mapping[str, float]
    space: Mapping[str, str]
    """The encoders' card."""
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainedFacts:
    """A way to begin training, with its runs."""

    name: str
    note: str
    runs: Sequence[RunFacts]


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetuneFacts:
    """The fine-tuning of a retrieved network."""

    dataset: DatasetFacts
    network: RetrievedFacts
    trained: Sequence[TrainedFacts]
    """The retrieved network first, then the same architecture from scratch where it was trained too."""
    predictions: PredictionFacts | None
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluateFacts:
    """Fine-tunings of retrieved networks beside other ways to begin, on several datasets."""

    budgets: Sequence[int]
    """Epochs."""
    accuracies: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]]
    """Dataset -> way -> epochs -> one accuracy a seed."""
    ways: Mapping[str, str]
    """Way -> what it is; the retrieved network first."""
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
