"""What the pages of `metad2a.report` are made of: plain facts, gathered by the steps.

Accuracies are fractions in [0, 1]; costs are of one image's forward pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from common.report import Curve
from common.report.facts import DatasetFacts, PredictionFacts, RunFacts
from metad2a.benchmark import RankedAccuracies


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceFacts:
    """One source set of a meta-database."""

    name: str
    num_tasks: int
    accuracies: Tensor
    """(n,) of all its labelled cells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaTrainFacts:
    """The meta-training of a generator or a predictor."""

    model: str
    losses: Curve
    """Over the steps, mean of a row."""
    validation: Mapping[str, Curve]
    """Measure on held-out tasks -> its course."""
    kept: Mapping[str, float]
    """Measures of the state that was kept, with its epoch; empty where nothing was held out."""
    sources: Sequence[SourceFacts]
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ArchFacts:
    """One architecture."""

    text: str
    edges: Sequence[tuple[int, int, str]] = ()
    """(source, target, operation) of a cell."""
    stages: Sequence[Sequence[tuple[int, int]]] = ()
    """(kernel, expansion) of the blocks of a MobileNetV3 network."""
    num_params: int
    macs: int
    is_connected: bool = True
    """Whether its output depends on its input."""
    score: float | None = None
    index: int | None = None
    """The benchmark's, where the table is there."""
    accuracy: float | None = None
    """The table's, where it knows the dataset."""
    rank: int | None = None
    """Place by that accuracy among all cells of the table, 1 the best."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchFacts:
    """A search on one dataset."""

    dataset: DatasetFacts
    scores: Tensor
    """(M,) of the generated architectures."""
    costs: Sequence[int]
    """M numbers."""
    cost_label: str = "parameters"
    bound: int | None = None
    """Largest cost that was allowed."""
    word: str = "cells"
    """What the architectures are called."""
    cells: Sequence[ArchFacts]
    """The chosen ones, best first."""
    chosen: Sequence[int]
    """Their places among the M."""
    measures: Mapping[str, float | None]
    """How generation went: num_graphs, distinct_classes, and shares in [0, 1]; None where it is not known."""
    seed: int
    table: RankedAccuracies | None
    """What the table knows of the ranking."""
    table_note: str
    """Which accuracies these are, or why there are none."""
    accuracies: Tensor | None
    """(M,) from the table."""
    pair: Mapping[str, str]
    """The models' card."""
    seconds: Mapping[str, float]
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """A way to choose cells, over several seeds."""

    name: str
    results: Sequence[RankedAccuracies]
    """One a seed; one in all where there is no chance in it."""
    note: str = ""
    """What it takes, or is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluateFacts:
    """Searches with several seeds beside simpler ways to choose."""

    dataset: str
    methods: Sequence[MethodFacts]
    """The method first."""
    measures: Mapping[str, Sequence[float]]
    """How generation went -> one value a seed."""
    spearman_all: Sequence[float]
    """Rank correlation of the predictor over all cells, one a seed."""
    predicted: Tensor
    """(N,) scores of all cells, of the first seed."""
    accuracies: Tensor
    """(N,) theirs."""
    seeds: Sequence[int]
    table_note: str
    pair: Mapping[str, str]
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainedArch:
    """An architecture with its trainings."""

    name: str
    arch: ArchFacts
    runs: Sequence[RunFacts]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainFacts:
    """The training of the chosen architecture, and of random ones beside it."""

    dataset: DatasetFacts
    chosen: TrainedArch
    random: Sequence[TrainedArch]
    """Trained the same way from the first seed; may be empty."""
    interval: float | None
    """Half width of the 95 % interval of the mean final accuracy; None for one seed."""
    predictions: PredictionFacts | None
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
