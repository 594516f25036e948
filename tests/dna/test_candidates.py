"""From ratings to a network: real costs, cells of several widths, against enumeration."""

import itertools
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.meta.ranking import kendall
from dna.archs import LAYERS, OPS, WIDTHS, Cell, DnaArch, path_index, path_ops
from dna.candidates import RatedCell, arch_of, groups_of
from dna.costs import LayerShape, counted, fixed_costs, network_costs, op_costs, timed
from dna.traverse import traverse

FEW = (0, 5)
"""Paths that are worth taking in the instances below."""


def rated_cells(seed: int) -> list[list[RatedCell]]:
    """One or two cells of one or two layers in each stage; all paths but FEW are rated too badly to be chosen."""
    draws = np.random.default_rng(seed)
    stages = []
    for stage in range(6):
        cells = [Cell(1, WIDTHS[stage])] + ([Cell(2, WIDTHS[stage] + 16)] if stage in (1, 3, 4) else [])
        rated = []
        for cell in cells:
            losses = np.full(cell.num_paths, 1e6)
            losses[list(FEW)] = draws.random(len(FEW))
            rated.append(RatedCell(cell, losses))
        stages.append(rated)
    return stages


@pytest.mark.parametrize("measure", ["macs", "official_macs", "num_params"])
def test_the_search_over_cells_of_several_widths_equals_enumeration(measure: str) -> None:
    rated = rated_cells(7)
    fixed = int(getattr(fixed_costs(WIDTHS[-1], 10, 64), measure))
    everything = []
    for cells in itertools.product(*rated):
        for paths in itertools.product(FEW, repeat=6):
            ops = tuple(path_ops(path, entry.cell.num_layers) for path, entry in zip(paths, cells, strict=True))
            arch = DnaArch(ops, tuple(entry.cell.width for entry in cells))
            cost = int(getattr(network_costs(arch, 10, 64), measure))
            everything.append((sum(float(e.losses[p]) for e, p in zip(cells, paths, strict=True)), cost, arch))
    everything.sort(key=lambda network: network[:2])
    stages = groups_of(rated, counted(measure), 64)  # type: ignore[arg-type]
    for share in (0.05, 0.3, 0.8):
        budget = int(np.quantile([cost for _, cost, _ in everything], share))
        expected = [network for network in everything if network[1] <= budget][:3]
        found = traverse(stages, budget, fixed=fixed, count=3)
        assert [(f.costs[0], arch_of(f, rated)) for f in found] == [network[1:] for network in expected]
        assert [f.loss for f in found] == pytest.approx([network[0] for network in expected])


def test_two_budgets_and_measured_times_are_kept() -> None:
    rated = rated_cells(8)
    stages = groups_of(rated, counted("macs", "num_params"), 64)
    (free,) = traverse(stages, None)
    budget = [int(0.9 * cost) for cost in free.costs]
    (found,) = traverse(stages, budget)
    assert all(cost <= most for cost, most in zip(found.costs, budget, strict=True))
    assert found.loss > free.loss

    table = {}

    def remembered(layer: LayerShape) -> NDArray[np.int64]:
        table.update({(layer, op): 1e-9 * int(macs) for op, macs in enumerate(op_costs(layer).macs)})
        return op_costs(layer).macs

    (counted_best,) = traverse(groups_of(rated, remembered, 64), budget[0])
    (timed_best,) = traverse(groups_of(rated, timed(table), 64), budget[0])
    assert timed_best == counted_best


def test_default_cells_give_the_default_network_of_the_best_paths() -> None:
    rated = []
    for num_layers, width in zip(LAYERS, WIDTHS, strict=True):
        cell = Cell(num_layers, width)
        losses = np.ones(cell.num_paths)
        losses[path_index((1,) * num_layers)] = 0.5
        rated.append([RatedCell(cell, losses)])
    (found,) = traverse(groups_of(rated, counted("macs"), 224), None, fixed=int(fixed_costs(320, 1000, 224).macs))
    arch = DnaArch(tuple((1,) * num_layers for num_layers in LAYERS))
    assert arch_of(found, rated) == arch
    assert found.costs == (int(network_costs(arch, 1000, 224).macs),)
    assert found.loss == 3.0


def test_ratings_of_another_cell_are_refused() -> None:
    rated = rated_cells(0)
    rated[2] = [RatedCell(Cell(2, 80), np.zeros(len(OPS)))]
    with pytest.raises(
        ValueError, match=re.escape("stage 2: ratings of shape (6,) for a cell of 2 layers, which has 36")
    ):
        groups_of(rated, counted("macs"), 64)
    with pytest.raises(ValueError, match="all 6 need one"):
        groups_of(rated[:5], counted("macs"), 64)
    with pytest.raises(ValueError, match="all 6 need one"):
        groups_of([*rated[:5], []], counted("macs"), 64)


RANKED = """
11|1111|1101|1011|1101 75.52 5656456   20|0320|0020|1112|0000 74.89 5393416
11|1031|1301|1110|3011 75.00 5450776   13|2321|0201|1123|1103 74.55 5048488
10|1231|1311|1221|3131 74.66 4958824   13|3103|0200|1233|1333 74.34 4382392
10|3110|1220|1000|3021 74.79 5069080   12|0220|0330|1002|1312 74.62 4794808
01|3100|3201|3011|0301 74.76 5192776   03|2020|2101|1022|3233 74.03 4369960
00|3021|3120|3311|0031 74.46 5083384   03|0013|2031|0312|0103 74.33 5034040
00|3231|3331|0010|0001 74.93 5441128   02|3203|2311|3133|0213 74.14 4683352
31|2111|1012|2101|3210 74.766 5084152  02|3032|2320|3213|0303 73.86 4602040
21|0331|1033|3201|0221 74.36 4737352   33|0033|0123|3333|1002 74.38 4812472
21|2131|1223|2031|1200 74.43 4969672   32|2133|2102|0223|0023 73.85 4596088
30|0000|0100|2321|3020 74.57 4902952   22|2202|2323|2002|0022 73.58 4608856
30|3220|3013|2021|0030 74.52 5029096
"""
"""Networks of four ops that were trained in full: ops, top-1 accuracy on ImageNet in percent, parameters."""
FOUR_OPS = (0, 1, 3, 4)


def test_the_cost_of_the_networks_of_the_ranking_test_is_known() -> None:
    words = RANKED.split()
    texts, accuracies, num_params = words[::3], [float(x) for x in words[1::3]], [int(x) for x in words[2::3]]
    archs = [DnaArch((*(tuple(FOUR_OPS[int(c)] for c in s) for s in text.split("|")), (0,))) for text in texts]
    costs = [network_costs(arch, 1000, 224) for arch in archs]
    assert len(costs) == 23
    assert [int(cost.num_params) for cost in costs] == num_params
    assert costs[0].official_macs == 503_043_776
    measured = torch.tensor(accuracies, dtype=torch.float64)
    for values, expected in (([c.official_macs for c in costs], 0.7549407), (num_params, 0.7075099)):
        assert kendall(torch.tensor([float(v) for v in values], dtype=torch.float64), measured) == pytest.approx(
            expected, abs=1e-6
        )
