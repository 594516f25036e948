"""Product grids: numbers of points, digits, scaled features, published draws."""

import itertools
import math

import numpy as np
import pytest
import torch

from common.spaces.configuration import complete, flatten, nest
from common.spaces.grid import Axis, Grid, check_index, draw_indices, grid_of

SMALL = Grid((Axis("a.x", (3, 1, 2)), Axis("b", (False, True)), Axis("c", (7,)), Axis("d", (0.5, 4.0, 8.0, -1.0))))


def test_digits_are_those_of_numpy_in_c_order() -> None:
    expected = np.stack(np.unravel_index(np.arange(24), (3, 2, 1, 4)), 1)
    assert SMALL.sizes == (3, 2, 1, 4)
    assert SMALL.size() == 24
    assert np.array_equal(SMALL.digits(torch.arange(24)).numpy(), expected)
    assert np.array_equal(SMALL.digits(list(range(24))).numpy(), expected)


def test_indices_and_values_invert_digits() -> None:
    digits = SMALL.digits(torch.arange(24))
    assert torch.equal(SMALL.indices(digits), torch.arange(24))
    points = [SMALL.values(row) for row in digits.tolist()]
    assert [SMALL.locate(point) for point in points] == [tuple(row) for row in digits.tolist()]
    expected = [dict(zip(SMALL.keys, p, strict=True)) for p in itertools.product(*(axis.levels for axis in SMALL.axes))]
    assert points == expected


def test_scaled_features_have_mean_zero_and_deviation_one_over_the_enumerated_space() -> None:
    raw = np.array([[float(v) for v in p] for p in itertools.product(*(axis.levels for axis in SMALL.axes))])
    deviation = raw.std(0)
    expected = (raw - raw.mean(0)) / np.where(deviation == 0, 1, deviation)  # an axis of one level is divided by 1
    scaled = SMALL.features(SMALL.digits(torch.arange(24)))
    assert scaled.dtype == torch.float64
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-15)
    np.testing.assert_allclose(scaled.std(0, correction=0), [1, 1, 0, 1], atol=1e-15)


def test_the_levels_of_the_axes_are_all_that_the_features_of_the_space_need() -> None:
    product = torch.cartesian_prod(*SMALL.scaled_levels)
    assert torch.equal(product, SMALL.features(SMALL.digits(torch.arange(24))))


def test_a_space_far_too_large_to_enumerate_is_numbered_at_once() -> None:
    grid = Grid(tuple(Axis(str(i), tuple(range(10))) for i in range(18)))
    assert grid.digits([123456789012345678]).tolist() == [list(map(int, "123456789012345678"))]
    assert grid.indices([[9] * 18]).tolist() == [10**18 - 1]
    assert grid.features([[0] * 18]).shape == (1, 18)
    with pytest.raises(ValueError, match="more points than an index can number"):
        Grid(tuple(Axis(str(i), tuple(range(10))) for i in range(19)))


def test_a_space_without_axes_has_one_point() -> None:
    grid = Grid((), (("a", 1),))
    assert grid.size() == 1
    assert grid.digits([0]).shape == grid.features(grid.digits([0])).shape == (1, 0)
    assert grid.indices(grid.digits([0, 0])).tolist() == [0, 0]
    assert grid.values(()) == {"a": 1}


def test_no_points_have_no_digits() -> None:
    assert SMALL.digits([]).shape == SMALL.digits(torch.zeros(0)).shape == (0, 4)
    assert SMALL.features([]).shape == (0, 4)
    assert SMALL.indices([]).shape == (0,)


@pytest.mark.parametrize(
    ("indices", "reason"),
    [
        ([24], "index 24: 0 to 23"),
        ([0, -1], "index -1: 0 to 23"),
        ([2**63], "indices are no integers"),
        (["1"], "indices are no integers"),
        ([1.0], "indices of type torch.float32; integers are needed"),
        ([True], "indices of type torch.bool"),
        ([[1]], r"indices of shape \(1, 1\); \(N,\) is needed"),
    ],
)
def test_what_is_no_index_is_refused(indices: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SMALL.digits(indices)


@pytest.mark.parametrize(
    ("digits", "reason"),
    [
        ([[0, 2, 0, 0]], "digit 2 of b: 0 to 1 are allowed"),
        ([[0, 0, 0, -1]], "digit -1 of d"),
        ([[0, 0, 0]], r"digits of shape \(1, 3\); \(N, 4\) is needed"),
        ([0, 0, 0, 0], r"digits of shape \(4,\)"),
        ([[0, 0, 0, 0.5]], "digits of type torch.float32"),
        ([[0], [0, 0]], "digits are no integers"),
    ],
)
def test_what_are_no_digits_is_refused(digits: list[list[int]], reason: str) -> None:
    for act in (SMALL.indices, SMALL.features):
        with pytest.raises(ValueError, match=reason) as caught:
            act(digits)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("digits", [(0, 0, 0), (0, 2, 0, 0), (0, 0, 0, -1)])
def test_one_point_with_wrong_digits_is_refused(digits: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one below each of"):
        SMALL.values(digits)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"b": 2}, "b is 2; allowed are False, True"),
        ({"a.x": "3"}, "a.x is '3'; allowed are 3, 1, 2"),
        ({"e": 1}, "e is unknown; known are a.x, b, c, d"),
    ],
)
def test_values_outside_the_grid_are_refused(change: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SMALL.locate({"a.x": 3, "b": True, "c": 7, "d": 4} | change)
    with pytest.raises(ValueError, match=r"d is missing; allowed are 0\.5"):
        SMALL.locate({"a.x": 3, "b": True, "c": 7})


def test_lists_are_axes_in_lexicographic_order_and_other_values_constants() -> None:
    grid = grid_of({"layer_2": {"n": [1, 2], "c": [8]}, "layer_10": {"n": 3, "c": [4, 8]}, "bn": (False, True)})
    assert [axis.key for axis in grid.axes] == ["bn", "layer_10.c", "layer_2.c", "layer_2.n"]
    assert grid.constants == (("layer_10.n", 3),)
    assert grid.keys == ("bn", "layer_10.c", "layer_2.c", "layer_2.n", "layer_10.n")
    assert grid.sizes == (2, 2, 1, 2)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"l": {"act": ["relu", "gelu"]}}, r"l\.act has the option 'relu', which is not a number"),
        ({"l": {"c": [8, None]}}, r"l\.c has the option None"),
        ({"l": {"c": [8, math.nan]}}, r"l\.c has the option nan"),
        ({"l": {"c": [10**400]}}, r"l\.c has the option 1000"),
        ({"l": {"c": []}}, r"l\.c has no options"),
        ({"l": {"c": [8, 8.0]}}, r"l\.c has equal options \(8, 8\.0\)"),
        ({"l": {"c": [1, True]}}, r"l\.c has equal options"),
        ({"l": {"c": "8"}}, r"l\.c has the option '8'"),
    ],
)
def test_options_that_are_no_numbers_are_refused_by_their_key(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        grid_of(options)


def test_a_key_on_two_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="a key occurs twice among a, b, a"):
        Grid((Axis("a", (1, 2)), Axis("b", (1, 2))), (("a", 3),))


def test_nested_configurations_survive_the_flat_form() -> None:
    nested = {"layer_0": {"c": 8, "n": 1}, "fc": {"units": 3}}
    flat = flatten(nested)
    assert list(flat) == ["fc.units", "layer_0.c", "layer_0.n"]
    assert nest(flat) == nested
    assert flatten({}) == {}


def test_a_configuration_is_completed_from_its_default() -> None:
    known = ("a.x", "a.y")
    assert complete({"a": {"y": [1, 2]}}, known, {"a.x": 5, "a.y": 6}) == {"a.x": 5, "a.y": (1, 2)}
    with pytest.raises(ValueError, match=r"a\.x is missing"):
        complete({"a": {"y": 1}}, known)
    with pytest.raises(ValueError, match=r"a\.z is unknown; known are a\.x, a\.y"):
        complete({"a": {"y": 1, "x": 1, "z": 0}}, known)


def test_published_draws_are_those_of_the_legacy_generator() -> None:
    drawn = draw_indices(2_097_152, 30, seed=7)
    assert drawn[:5].tolist() == [356534, 1857049, 1359836, 1829771, 1458085]
    assert drawn.dtype == torch.int64
    assert len(set(drawn.tolist())) == 30
    assert sorted(draw_indices(9, 9, seed=0).tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("size", "num", "reason"),
    [(5, 6, "6 distinct points were asked for and there are 5"), (5, -1, "-1 distinct"), (10**9, 5, "space's sample")],
)
def test_impossible_draws_are_refused(size: int, num: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        draw_indices(size, num, 0)


@pytest.mark.parametrize("index", [-1, 5, 1.0, True, "2", None, 2**80])
def test_what_is_no_index_of_an_architecture_is_refused(index: object) -> None:
    with pytest.raises(ValueError, match=r"0 to 4 are architectures of toys"):
        check_index(index, 5, "toys")  # type: ignore[arg-type]
