"""What the pages of `dass.report` are made of: plain facts, gathered by the steps, without any dependence on them.

Accuracies are fractions in [0, 1]; costs are of one image's forward pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from common.report import Curve
from common.report.facts import DatasetFacts, PredictionFacts, RunFacts

Vector = Tensor | Sequence[float]
"""(N,) numbers."""


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """A teacher or a student."""

    name: str
    architecture: str
    """The space's text form, which commands take back."""
    num_params: int
    macs: int
    widths: Sequence[Sequence[int]] = ()
    """Channels of the active blocks of each stage; empty draws no picture of the network."""
    accuracy: float | None = None
    """Measured; None where it was not."""
    score: float | None = None
    """The predictor's, for ranking only."""


@dataclass(frozen=True, kw_only=True)
class StudentRuns:
    """A student with its runs, one a seed."""

    network: NetworkFacts
    runs: Sequence[RunFacts]


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Rank correlations of a ranking with the measured accuracies; NaN where undefined."""

    spearman: float
    kendall: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingFacts:
    """Predicted and measured accuracies of the trained networks of one dataset."""

    dataset: str
    predicted: Vector
    measured: Vector
    correlations: Mapping[str, Correlation]
    """Ranking -> its correlation; the method first, then what it has to beat."""
    chosen: int
    """Index of the network that the method puts first."""
    ceiling: Correlation | None = None
    """Correlation between two measurements of the same networks: what label noise leaves within reach."""
    teacher_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskFacts:
    """One task of the meta-database."""

    name: str
    role: str
    """For instance "meta-train" or "meta-valid"."""
    teacher_accuracy: float
    accuracies: Vector
    """(N,) of its students."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchFacts:
    """A search on one dataset."""

    dataset: DatasetFacts
    teacher: NetworkFacts
    scores: Vector
    """(N,) of the candidates."""
    num_params: Vector
    macs: Vector
    chosen: Sequence[int]
    """Indices of the top k, best first."""
    students: Sequence[NetworkFacts]
    """The chosen, in that order."""
    seed: int
    max_params: int | None = None
    max_macs: int | None = None
    teacher_error: tuple[float, float] | None = None
    """Squared error of the prediction for the teacher before and after adaptation."""
    predictor: Mapping[str, str] = field(default_factory=dict)
    """The predictor's card: where it comes from, what it was trained on, how well it ranked."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    """What it does -> command line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DistillFacts:
    """The distillation of one or more students of one teacher."""

    dataset: DatasetFacts
    teacher: NetworkFacts
    students: Sequence[StudentRuns]
    teacher_run: RunFacts | None = None
    predictions: PredictionFacts | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluateFacts:
    """How well a predictor ranks on datasets whose students were trained."""

    datasets: Sequence[RankingFacts]
    predictor: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaTrainFacts:
    """A meta-training run."""

    losses: Curve
    validation: Mapping[str, Curve]
    """Meta-valid task -> Spearman over the episodes."""
    kept: tuple[int, float]
    """Episode of the checkpoint that was kept, and its mean Spearman over the meta-valid tasks."""
    database: Sequence[TaskFacts]
    settings: Mapping[str, str] = field(default_factory=dict)
    num_undefined: int = 0
    """Validations whose prediction was constant; they count as -1."""
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherFacts:
    """The training of a teacher."""

    dataset: DatasetFacts
    teacher: NetworkFacts
    run: RunFacts
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
