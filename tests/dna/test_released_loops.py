"""The exact search against the released nested loops: never worse, and better where their loop ends carry over."""

import numpy as np
import pytest

from bench.dna_search import released_loops, synthetic_losses
from dna.archs import WIDTHS, Cell
from dna.candidates import RatedCell, groups_of
from dna.costs import counted
from dna.traverse import Group, traverse


def stages_of(seed: int) -> list[list[Group]]:
    """Six stages, two of them of two layers, with costs of the real widths."""
    rated = [
        [RatedCell(Cell(num, width), synthetic_losses(num, 10 * seed + stage))]
        for stage, (num, width) in enumerate(zip((1, 1, 2, 2, 1, 1), WIDTHS, strict=True))
    ]
    return groups_of(rated, counted("official_macs"), 224)


@pytest.mark.parametrize("seed", range(5))
def test_the_search_is_never_worse_than_the_released_loops_and_often_better(seed: int) -> None:
    stages = stages_of(seed)
    losses, costs = [stage[0].losses for stage in stages], [stage[0].costs for stage in stages]
    least, most = (sum(int(pick(stage)) for stage in costs) for pick in (np.min, np.max))
    behind = {}
    for share in (0.25, 0.4, 0.7, 1.1):
        budget = int(least + share * (most - least))
        (found,) = traverse(stages, budget - 1)  # the loops ask for less than the budget
        best, ended = released_loops(losses, costs, budget, limit=10.0)
        assert ended
        behind[share] = best - found.loss
    assert min(behind.values()) > -1e-9
    assert behind[0.4] > 0.03, "the loops do not find the optimum"
    assert behind[1.1] == pytest.approx(0), "where everything fits they do"
