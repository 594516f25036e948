"""Figures: what is drawn lies where the data say."""

from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from common.report import (
    Curve,
    block_widths,
    cost_scatter,
    grouped_bars,
    pareto_front,
    plot,
    ranking_scatter,
    training_curves,
    value_spread,
)
from common.report.scatter import MAX_VECTOR_POINTS


def part(figure: Figure, gid: str) -> Any:
    """The one artist that carries this id."""
    found = figure.findobj(lambda artist: artist.get_gid() == gid)
    assert len(found) == 1, f"{len(found)} artists named {gid}"
    return found[0]


def bars(figure: Figure, gid: str) -> list[Rectangle]:
    return [bar for bar in figure.axes[0].patches if isinstance(bar, Rectangle) and bar.get_gid() == gid]


def slow_front(costs: list[float], scores: list[float]) -> set[int]:
    points = list(zip(costs, scores, strict=True))
    return {
        index
        for index, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c < cost or s > score) for c, s in points)
    }


@pytest.mark.parametrize("seed", range(20))
def test_the_pareto_front_equals_brute_force_with_many_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    costs, scores = random.integers(0, 8, 40).tolist(), random.integers(0, 8, 40).tolist()
    front = pareto_front(costs, scores)
    assert set(front) == slow_front(costs, scores)
    assert [costs[index] for index in front] == sorted(costs[index] for index in front)


def test_the_front_of_one_point_is_that_point() -> None:
    assert pareto_front([3.0], [1.0]) == [0]


@pytest.mark.parametrize(("costs", "scores"), [([1.0, 2.0], [1.0]), ([], []), ([1.0], [float("nan")])])
def test_points_that_cannot_be_drawn_are_refused(costs: list[float], scores: list[float]) -> None:
    with pytest.raises(ValueError, match="figure: "):
        pareto_front(costs, scores)


def test_the_cost_scatter_marks_the_chosen_points_at_their_data() -> None:
    costs, scores = [400e6, 300e6, 500e6, 600e6], [0.5, 0.6, 0.7, 0.65]
    figure = cost_scatter(costs, scores, chosen=[2, 1, 3], cost_label="MACs", score_label="score", bound=550e6)
    assert part(figure, "chosen").get_offsets().tolist() == [[500e6, 0.7]]
    assert part(figure, "others").get_offsets().tolist() == [[300e6, 0.6], [600e6, 0.65]]
    assert part(figure, "candidates").get_offsets().tolist() == [list(pair) for pair in zip(costs, scores, strict=True)]
    assert part(figure, "front").get_xdata().tolist() == [300e6, 500e6]
    assert part(figure, "bound").get_xdata() == [550e6, 550e6]


def test_a_bound_far_beyond_the_candidates_does_not_squeeze_them() -> None:
    figure = cost_scatter([1.0, 2.0], [0.1, 0.2], chosen=[1], cost_label="MACs", score_label="score", bound=100.0)
    assert not figure.findobj(lambda artist: artist.get_gid() == "bound")
    assert figure.axes[0].get_xlim()[1] < 3


def test_large_clouds_become_pixels_so_the_page_stays_small() -> None:
    random = np.random.default_rng(0)
    for num, is_pixels in ((MAX_VECTOR_POINTS, False), (20_000, True)):
        costs, scores = random.random(num), random.random(num)
        figure = cost_scatter(costs, scores, chosen=[0], cost_label="MACs", score_label="score")
        drawing = plot(figure, alt="cloud", caption="").html
        assert ("data:image/png" in drawing) == is_pixels
        assert len(drawing) < 400_000


def test_the_ranking_scatter_has_score_across_and_accuracy_up() -> None:
    figure = ranking_scatter([0.1, 0.9], [0.4, 0.6], chosen=[1], teacher=0.7)
    assert part(figure, "networks").get_offsets().tolist() == [[0.1, 0.4], [0.9, 0.6]]
    assert part(figure, "chosen").get_offsets().tolist() == [[0.9, 0.6]]
    assert part(figure, "teacher").get_ydata() == [0.7, 0.7]


def test_curves_show_the_mean_and_a_band_over_the_common_steps() -> None:
    runs = {"student": [Curve([0, 5, 10], [0.2, 0.4, 0.9]), Curve([0, 5], [0.4, 0.8])], "teacher": [Curve([0], [0.5])]}
    figure = training_curves(runs, value_label="accuracy", is_fraction=True, mark=(5, 0.6))
    mean = part(figure, "mean:student")
    assert mean.get_xdata().tolist() == [0, 5]
    assert mean.get_ydata() == pytest.approx([0.3, 0.6])
    corners = part(figure, "band:student").get_paths()[0].vertices
    assert {(x, y) for x, y in corners.tolist()} == {(0, 0.2), (0, 0.4), (5, 0.4), (5, 0.8)}
    assert not figure.findobj(lambda artist: artist.get_gid() == "band:teacher")
    assert part(figure, "mark").get_offsets().tolist() == [[5, 0.6]]


def test_a_curve_without_a_value_for_each_step_is_refused() -> None:
    with pytest.raises(ValueError, match="2 steps for 1 values"):
        Curve([0, 1], [0.5])


def test_bars_have_the_lengths_of_their_values_and_undefined_ones_say_so() -> None:
    series = {"DaSS": [0.6, 0.5], "MACs": [-0.2, float("nan")]}
    figure = grouped_bars(["cub", "dtd"], series, value_label="Spearman", limits={"dtd": 0.8})
    containers = {bar.get_label(): bar for bar in figure.axes[0].containers}
    assert [bar.get_width() for bar in containers["DaSS"]] == [0.6, 0.5]
    assert [bar.get_width() for bar in containers["MACs"]] == [-0.2, 0.0]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.60", "0.50", "-0.20", "none"]
    limit = part(figure, "limit").get_segments()
    assert len(limit) == 1
    assert limit[0][:, 0].tolist() == [0.8, 0.8]
    assert limit[0][:, 1].mean() == pytest.approx(1)  # across the bars of the second group


def test_bars_need_one_value_for_each_group() -> None:
    with pytest.raises(ValueError, match="'a' has 1 values for 2 groups"):
        grouped_bars(["x", "y"], {"a": [0.1]}, value_label="v")


def test_the_spread_shows_range_quartiles_median_and_mark() -> None:
    groups = {"a": [0.0, 0.25, 0.5, 0.75, 1.0], "b": [0.3, 0.3, 0.3]}
    figure = value_spread(groups, marks={"b": 0.3}, mark_label="chosen", value_label="accuracy")
    assert part(figure, "range").get_segments()[0][:, 0].tolist() == [0, 1]
    assert part(figure, "half").get_segments()[0][:, 0].tolist() == [0.25, 0.75]
    assert part(figure, "median").get_offsets().tolist() == [[0.5, 0], [0.3, 1]]
    assert part(figure, "marked").get_offsets().tolist() == [[0.3, 1]]


def test_the_network_drawing_has_one_bar_a_block_with_its_channels() -> None:
    figure = block_widths([[18, 32], [36]], [[32, 32], [64, 64, 64]])
    assert [bar.get_width() for bar in bars(figure, "student")] == [18, 32, 36]
    assert [bar.get_width() for bar in bars(figure, "teacher")] == [32, 32, 64, 64, 64]
    rows = {gid: [bar.get_y() for bar in bars(figure, gid)] for gid in ("student", "teacher")}
    assert rows["student"] == rows["teacher"][:3]  # a student's block lies over the teacher's of the same place
    assert [text.get_text() for text in figure.axes[0].texts] == ["18", "32", "36"]
    assert figure.axes[0].yaxis_inverted()


def test_networks_with_other_numbers_of_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="student has 1 stages, teacher 2"):
        block_widths([[8]], [[8], [16]])


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(matplotlib.rcParams)
    plot(ranking_scatter([0.1], [0.2]), alt="a", caption="b")
    assert dict(matplotlib.rcParams) == before


def test_dollar_signs_in_a_name_are_no_formula() -> None:
    figure = value_spread({r"$\frac{": [0.1, 0.2]}, marks={}, mark_label="m", value_label="accuracy")
    assert r"$\frac{" in plot(figure, alt="a", caption="b").html


def test_logarithmic_axes_print_plain_numbers() -> None:
    figure = training_curves(
        {"loss": [Curve(list(range(4)), [1.0, 0.1, 0.01, 0.001])]}, value_label="loss", is_log=True
    )
    drawing = plot(figure, alt="a", caption="b").html
    assert ">0.01<" in drawing
    assert "mathdefault" not in drawing
