"""Searches on the table of NAS-Bench-201."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from common.spaces.nasbench201_table import load_table
from mfkd.cell_searches import SEARCHES, Budget, CellTable, cell_table, course
from mfkd.evaluations import Fidelity

BUDGET = Budget(num_low=12, init_high=3, num_high=5)


@pytest.fixture(scope="module")
def table(data_root: Path) -> CellTable:
    return cell_table(load_table(data_root), "cifar100")


def test_the_course_is_the_best_so_far_and_what_was_paid() -> None:
    looked_up: Sequence[tuple[Fidelity, int, float]] = [
        ("low", 1, 0.9),
        ("low", 2, 0.3),
        ("high", 2, 0.5),
        ("high", 3, 0.4),
        ("low", 4, 0.1),
        ("high", 4, 0.6),
    ]
    bests, costs = course(looked_up)
    assert bests == [0.5, 0.5, 0.6], "a low-fidelity accuracy is never the best"
    assert costs == pytest.approx([1 + 2 * 12 / 200, 2 + 2 * 12 / 200, 3 + 3 * 12 / 200])


@pytest.mark.parametrize("numbers", [(5, 6, 5), (4, 2, 5), (5, 0, 5)])
def test_budgets_do_not_fall(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="they must not fall"):
        Budget(num_low=numbers[0], init_high=numbers[1], num_high=numbers[2])


@pytest.mark.data
def test_codes_of_cells_are_scaled_and_tell_every_cell_apart(table: CellTable) -> None:
    features = table.domain.features(range(table.domain.size))
    assert features.shape == (15_625, 30)
    assert np.allclose(features.mean(0), 0)
    assert np.allclose(features.std(0), 1)
    assert len(np.unique(features.round(9), axis=0)) == 15_625


@pytest.mark.data
def test_fidelities_are_those_of_the_table(table: CellTable) -> None:
    """Figures of the table's own description."""
    assert round(100 * float(table.high.max()), 2) == 73.51
    assert round(100 * float(table.high.mean()), 2) == 61.41
    assert table.low.max() < 0.63


@pytest.mark.data
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_keeps_to_its_budget_and_repeats(name: str, table: CellTable) -> None:
    made = SEARCHES[name](table, BUDGET, 0)
    high = [one.point for one in made if one.fidelity == "high"]
    low = [one.point for one in made if one.fidelity == "low"]
    assert (len(high), len({*high}), len({*low})) == (5, 5, len(low))
    if name in ("random", "GP, high fidelity only"):
        assert low == []
    else:
        assert 12 <= len(low) <= (12 if name != "co-kriging" else 14)
    for one in made:
        assert one.accuracy == (table.low if one.fidelity == "low" else table.high)[one.point]
    assert SEARCHES[name](table, BUDGET, 0) == made
    assert [one.point for one in SEARCHES[name](table, BUDGET, 1)] != [one.point for one in made]


@pytest.mark.data
def test_searches_with_both_fidelities_use_the_low_one(table: CellTable) -> None:
    """MFKD2 starts at the cheap winner; the trivial way goes down the cheap ranking."""
    made = SEARCHES["MFKD2"](table, BUDGET, 4)
    low = {one.point: one.accuracy for one in made if one.fidelity == "low"}
    high = [one.point for one in made if one.fidelity == "high"]
    assert low[high[0]] == max(low.values())
    made = SEARCHES["random, then the best at 12 epochs"](table, BUDGET, 4)
    low = {one.point: one.accuracy for one in made if one.fidelity == "low"}
    order = sorted(low, key=lambda point: -low[point])
    assert [one.point for one in made if one.fidelity == "high"] == order[:5]
