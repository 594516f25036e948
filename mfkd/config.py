"""Settings of the searches."""

import math
from dataclasses import dataclass
from typing import Literal

GpMode = Literal["wellposed", "legacy", "sklearn"]
"""Process that a search fits. "wellposed": noise and weak priors. "legacy": as in the published runs. "sklearn": the
released code with scikit-learn of today, which scales targets otherwise and explores far more."""

_LARGEST_SEED = 2**32 - 1  # of the legacy NumPy generator


@dataclass(frozen=True, kw_only=True)
class Mfkd1Config:
    """Algorithm 1: random low-fidelity evaluations, and the best prediction.

    Raises:
        ValueError: a value out of range; the message names it.
    """

    max_samples: int = 30
    """Low-fidelity evaluations."""
    gp: GpMode = "wellposed"
    """Process fitted to them; "sklearn" is "legacy" here."""
    risk: float = 0.0
    """Predicted deviations taken off the mean before the maximum is chosen; 0.5 in the authors' branch of Vega."""
    seed: int = 7
    """Of the legacy NumPy generator: it draws the points that the released code draws."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.max_samples < 2:
            raise ValueError(f"max_samples is {self.max_samples}: a process needs at least 2 evaluations")
        _check_number("risk", self.risk)
        _check_common(self.gp, self.seed)


@dataclass(frozen=True, kw_only=True)
class _Stop:
    """When a search ends early."""

    target: float | None = None
    """Accuracy that ends the search as soon as it is reached, in [0, 1]; None: only the number of samples does."""

    def is_reached(self, accuracy: float) -> bool:
        """Whether an accuracy ends the search."""
        return self.target is not None and accuracy >= self.target

    def _check_target(self) -> None:
        if self.target is not None and not 0 <= self.target <= 1:
            raise ValueError(f"target is {self.target}: a fraction in [0, 1] is needed")


@dataclass(frozen=True, kw_only=True)
class StepConfig(_Stop):
    """One step of algorithm 2, at one fidelity.

    Raises:
        ValueError: a value out of range; the message names it.
    """

    init_samples: int = 1
    """Points before the first proposal: the start and random ones."""
    max_samples: int = 10
    """Points in all."""
    kappa: float = 0.5
    """Predicted deviations added to the mean of a proposal."""
    gp: GpMode = "wellposed"
    """Process fitted to the points of this step."""
    seed: int = 7
    """Of the random points, restarts and ties."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 1 <= self.init_samples <= self.max_samples:
            raise ValueError(f"init_samples is {self.init_samples}: 1 to max_samples ({self.max_samples}) are possible")
        _check_number("kappa", self.kappa)
        _check_common(self.gp, self.seed)
        self._check_target()


@dataclass(frozen=True, kw_only=True)
class MfKdConfig(_Stop):
    """Co-kriging of both fidelities.

    Raises:
        ValueError: a value out of range; the message names it.
    """

    num_low: int = 100
    """Random points evaluated at low fidelity first."""
    num_high: int = 20
    """How many of them are evaluated at high fidelity, too, before the first proposal."""
    max_high: int = 30
    """High-fidelity evaluations in all. Every proposal may cost a low-fidelity one besides."""
    kappa: float = 0.5
    """Predicted deviations added to the mean of a proposal."""
    seed: int = 7
    """Of the random points and ties."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 1 <= self.num_high <= self.num_low:
            raise ValueError(f"num_high is {self.num_high}: 1 to num_low ({self.num_low}) are possible")
        if self.max_high < self.num_high:
            raise ValueError(f"max_high is {self.max_high}: at least num_high ({self.num_high}) is needed")
        _check_number("kappa", self.kappa)
        _check_common("wellposed", self.seed)
        self._check_target()


def _check_number(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}: 0 or more is needed")


def _check_common(gp: str, seed: int) -> None:
    if gp not in ("wellposed", "legacy", "sklearn"):
        raise ValueError(f"gp is {gp!r}: 'wellposed', 'legacy' or 'sklearn'")
    if not 0 <= seed <= _LARGEST_SEED:
        raise ValueError(f"seed is {seed}: 0 to {_LARGEST_SEED} are possible")
