"""Evaluations of points at two fidelities: asked for once, checked, and enough to resume a search from.

An algorithm is a function of its configuration and of the accuracies that it is given, so the list of evaluations is
its whole state: run again with those already known, it asks for the others only.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfkd.gaussian_process import Array

Fidelity = Literal["low", "high"]
"""Cheap training, and full training."""

Evaluate = Callable[[Sequence[int], Fidelity], Sequence[float]]
"""Trains the networks of some points and returns the validation accuracy of each, in [0, 1] and in their order.

It may work on them at once and end them in any order. A point never comes twice at one fidelity. What takes long should
be kept by `Evaluation.key` as soon as it is there.
"""


@dataclass(frozen=True)
class Evaluation:
    """An accuracy that was measured.

    Attributes:
        point: number of the architecture in its domain.
        fidelity: how it was trained.
        accuracy: on the validation images, in [0, 1].

    Raises:
        ValueError: the accuracy is no fraction, the point is negative or the fidelity unknown.
    """

    point: int
    fidelity: Fidelity
    accuracy: float

    def __post_init__(self) -> None:
        """Check the values."""
        if self.point < 0:
            raise ValueError(f"point {self.point} of an evaluation is negative")
        if self.fidelity not in ("low", "high"):
            raise ValueError(f"fidelity {self.fidelity!r} of an evaluation: 'low' or 'high'")
        if not (math.isfinite(self.accuracy) and 0 <= self.accuracy <= 1):
            raise ValueError(
                f"the accuracy of point {self.point} at {self.fidelity} fidelity is {self.accuracy}: a fraction in "
                "[0, 1] is needed (divide percentages by 100)"
            )

    @property
    def key(self) -> str:
        """Such as `low/12345`: one evaluation has one key."""
        return f"{self.fidelity}/{self.point}"


class Ledger:
    """Accuracies by point and fidelity, asked for where they are not known.

    Args:
        evaluate: what measures them.
        known: evaluations of an earlier run, in any order.

    Raises:
        ValueError: the known ones contain two accuracies of one point at one fidelity.
    """

    def __init__(self, evaluate: Evaluate, known: Iterable[Evaluation] = ()) -> None:
        self._evaluate = evaluate
        self._known: dict[tuple[int, Fidelity], Evaluation] = {}
        self._asked: dict[tuple[int, Fidelity], Evaluation] = {}
        for evaluation in known:
            if self._known.setdefault((evaluation.point, evaluation.fidelity), evaluation) != evaluation:
                raise ValueError(f"evaluation {evaluation.key} is known with two accuracies; keep one of them")

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """All that were asked for, in the order of asking, whether known before or measured."""
        return tuple(self._asked.values())

    def accuracies(self, points: Sequence[int], fidelity: Fidelity) -> Array:
        """Accuracies of points, (len(points),) in their order; those not known are measured in one call.

        Raises:
            ValueError: the measuring function returned another number of accuracies, or one that is no fraction.
        """
        missing = [point for point in points if (point, fidelity) not in self._known]
        if missing:
            measured = list(self._evaluate(missing, fidelity))
            if len(measured) != len(missing):
                raise ValueError(
                    f"{len(measured)} accuracies were returned for {len(missing)} points: one each is needed"
                )
            for point, accuracy in zip(missing, measured, strict=True):
                self._known[point, fidelity] = Evaluation(point, fidelity, float(accuracy))
        found = [self._known[point, fidelity] for point in points]
        self._asked |= {(one.point, one.fidelity): one for one in found}
        return np.array([one.accuracy for one in found])
