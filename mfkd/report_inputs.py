"""What the pages of `mfkd.report` are made of: plain facts, gathered by the steps.

Results of steps are those of `result.json`. Accuracies are fractions in [0, 1]; costs are of one image's forward pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.data.tasks import Task
from common.report.facts import PredictionFacts
from common.spaces.mobilenet_v2 import MobileNetV2Space
from mfkd.plans import FidelityOptions

Result = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchFacts:
    """A search on one dataset."""

    name: str
    """Of the dataset."""
    task: Task
    """What networks were trained and compared on."""
    algorithm: str
    steps: Sequence[Result]
    """Results of the search steps, in order."""
    winner: Result
    """Of the last one."""
    space: MobileNetV2Space
    recipes: Mapping[str, FidelityOptions]
    """How networks were trained, by fidelity."""
    seed: int
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class DistillFacts:
    """The training of the chosen network, and of random ones beside it."""

    task: Task
    chosen: Sequence[Result]
    """One a seed."""
    random: Sequence[Result]
    """Trained the same way from the first seed; may be empty."""
    space: MobileNetV2Space
    predictions: PredictionFacts
    settings: Mapping[str, Any]
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to find a network, over the seeds.

    Attributes:
        name: of it.
        validation: accuracy of the network on validation images when it was chosen, one a seed; None where it was only
            predicted.
        test: accuracy of its final training on test images, one a seed.
        num_high: trainings at high fidelity, one a seed.
        macs: of all trainings before the final one, one a seed.
        seconds: the same in time, of this machine.
        architectures: those found, one a seed.
    """

    name: str
    validation: Sequence[float | None]
    test: Sequence[float]
    num_high: Sequence[int]
    macs: Sequence[int]
    seconds: Sequence[float]
    architectures: Sequence[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluateFacts:
    """Searches with several seeds beside random search at equal cost."""

    dataset: str
    arms: Sequence[Arm]
    seeds: Sequence[int]
    teacher: Result
    """How good the teacher is, and what it cost."""
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class CorrelateFacts:
    """How low-fidelity accuracies rank networks against full ones, by loss."""

    dataset: str
    losses: Sequence[str]
    low: Mapping[str, Sequence[Sequence[float]]]
    """Loss -> one list a seed of accuracies, one a network."""
    high: Sequence[float]
    """Mean over the seeds of the full accuracies, one a network."""
    kendall: Mapping[str, Sequence[float]]
    """Loss -> rank correlation with the full accuracies, one a seed; also of what costs no training."""
    commands: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkFacts:
    """Searches on NAS-Bench-201's table."""

    dataset: str
    num_seeds: int
    curves: Mapping[str, Sequence[float]]
    """Way to search -> mean best accuracy after 1, 2, ... high-fidelity look-ups."""
    costs: Mapping[str, Sequence[float]]
    """The same way -> trainings of 200 epochs that were paid by then, the low-fidelity ones included."""
    table: Sequence[Sequence[str]]
    """Rows as they are printed."""
    columns: Sequence[str]
    best: float
    """Best accuracy of the table."""
    commands: Mapping[str, str] = field(default_factory=dict)
