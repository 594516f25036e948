import numpy as np
import pytest
from matplotlib.figure import Figure

from common.report import coverage, interval_scatter


def drawn(figure: Figure, gid: str) -> np.ndarray:
    (axes,) = figure.axes
    (found,) = [part for part in axes.get_children() if part.get_gid() == gid]
    return np.asarray(found.get_offsets())  # type: ignore[attr-defined]


def test_points_stand_at_measured_and_predicted_and_intervals_hold_95_percent() -> None:
    mean, std, measured = [0.5, 0.7], [0.1, 0.05], [0.55, 0.9]
    figure = interval_scatter(mean, std, measured)
    assert np.allclose(drawn(figure, "predicted"), [[0.55, 0.5], [0.9, 0.7]])
    (axes,) = figure.axes
    segments = np.array(axes.containers[0][2][0].get_segments())  # type: ignore[index]
    assert np.allclose(segments[:, :, 0], [[0.55, 0.55], [0.9, 0.9]])
    assert np.allclose(segments[:, 1, 1] - segments[:, 0, 1], 2 * 1.96 * np.array(std))


def test_coverage_counts_what_lies_inside() -> None:
    assert coverage([0.5, 0.7, 0.2], [0.1, 0.05, 0.0], [0.55, 0.9, 0.2]) == pytest.approx(2 / 3)
    draws = np.random.default_rng(0).normal(0.5, 0.1, 20_000)
    assert coverage(np.full(20_000, 0.5), np.full(20_000, 0.1), draws) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("mean", "std", "measured"),
    [([], [], []), ([0.5], [0.1], [0.5, 0.6]), ([0.5], [-0.1], [0.5]), ([float("nan")], [0.1], [0.5])],
)
def test_what_cannot_be_drawn_is_refused(mean: list[float], std: list[float], measured: list[float]) -> None:
    with pytest.raises(ValueError, match="intervals"):
        interval_scatter(mean, std, measured)
