"""What is asked for, what is known, and what is no accuracy."""

from collections.abc import Sequence

import numpy as np
import pytest

from mfkd.evaluations import Evaluation, Fidelity, Ledger


class Oracle:
    """Accuracy of point p is p / 100, a little more at high fidelity; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], str]] = []

    def __call__(self, points: Sequence[int], fidelity: Fidelity) -> list[float]:
        self.calls.append((list(points), fidelity))
        return [point / 100 + (fidelity == "high") / 1000 for point in points]


def test_only_unknown_evaluations_are_asked_for_and_each_once() -> None:
    oracle = Oracle()
    ledger = Ledger(oracle, [Evaluation(7, "low", 0.5), Evaluation(3, "high", 0.4), Evaluation(99, "low", 0.1)])
    np.testing.assert_allclose(ledger.accuracies([3, 7, 5], "low"), [0.03, 0.5, 0.05])
    np.testing.assert_allclose(ledger.accuracies([5, 3], "low"), [0.05, 0.03])
    np.testing.assert_allclose(ledger.accuracies([3], "high"), [0.4])
    assert oracle.calls == [([3, 5], "low")]
    assert [evaluation.key for evaluation in ledger.evaluations] == ["low/3", "low/7", "low/5", "high/3"]


def test_what_is_known_may_be_repeated_but_not_contradicted() -> None:
    Ledger(Oracle(), [Evaluation(7, "low", 0.5)] * 2)
    with pytest.raises(ValueError, match="low/7 is known with two accuracies"):
        Ledger(Oracle(), [Evaluation(7, "low", 0.5), Evaluation(7, "low", 0.6)])


@pytest.mark.parametrize("accuracy", [53.2, -0.1, float("nan"), float("inf")])
def test_accuracies_that_are_no_fractions_are_refused(accuracy: float) -> None:
    with pytest.raises(ValueError, match=r"point 4 at low fidelity is .*divide percentages by 100"):
        Ledger(lambda points, fidelity: [accuracy]).accuracies([4], "low")


def test_missing_accuracies_and_impossible_evaluations_are_refused() -> None:
    with pytest.raises(ValueError, match="1 accuracies were returned for 2 points"):
        Ledger(lambda points, fidelity: [0.5]).accuracies([4, 5], "low")
    with pytest.raises(ValueError, match="point -1"):
        Evaluation(-1, "low", 0.5)
    with pytest.raises(ValueError, match="fidelity 'medium'"):
        Evaluation(1, "medium", 0.5)  # type: ignore[arg-type]
