from pathlib import Path

import pytest
import torch

from dna.archs import FIRST_WIDTH, LAYERS, OPS, WIDTHS, Cell
from dna.candidates import RatedCell, arch_of, groups_of, layers_of
from dna.costs import LayerShape, op_costs, stage_layers, timed
from dna.latency import LatencyTable, Timing, load_table, measure, op_module, save_table
from dna.traverse import traverse

CELLS = [[Cell(1, 8)], [Cell(2, 8), Cell(1, 16)], [Cell(1, 16)], [Cell(1, 16)], [Cell(1, 24)], [Cell(1, 24)]]


def test_every_layer_that_a_network_can_have_is_listed_once() -> None:
    expected = set()
    for stage, cells in enumerate(CELLS):
        before = {cell.width for cell in CELLS[stage - 1]} if stage else {FIRST_WIDTH}
        expected |= {layer for cell in cells for width in before for layer in stage_layers(stage, cell, width, 32)}
    found = layers_of(CELLS, 32)
    assert len(found) == len(expected) == 9
    assert set(found) == expected
    assert found[-1].out_width == 24
    default = layers_of([[Cell(num, width)] for num, width in zip(LAYERS, WIDTHS, strict=True)], 224)
    assert len(default) == 11


@pytest.mark.parametrize("op", range(len(OPS)))
def test_timed_modules_are_the_ops_that_are_counted(op: int) -> None:
    for layer in (LayerShape(16, 24, 2, 15), LayerShape(40, 40, 1, 7)):
        module = op_module(layer, op).eval()
        assert sum(value.numel() for value in module.parameters()) == op_costs(layer).num_params[op]
        output = module(torch.zeros(1, layer.in_width, layer.side, layer.side))
        assert tuple(output.shape) == (1, layer.out_width, layer.out_side, layer.out_side)


def test_a_measured_table_is_complete_reads_back_and_can_be_searched_under(tmp_path: Path) -> None:
    layers = layers_of(CELLS, 32)
    table = measure(layers, num_classes=5, resolution=32, device=torch.device("cpu"), timing=Timing(repeats=2))
    assert set(table.layers) == {(layer, op) for layer in layers for op in range(len(OPS))}
    assert min(*table.layers.values(), table.fixed) > 0
    save_table(tmp_path / "table.json", table)
    again = load_table(tmp_path / "table.json")
    assert (again.layers, again.fixed, again.about) == (table.layers, table.fixed, table.about)
    generator = torch.Generator().manual_seed(0)
    rated = [
        [
            RatedCell(cell, torch.rand(cell.num_paths, generator=generator, dtype=torch.float64).numpy())
            for cell in cells
        ]
        for cells in CELLS
    ]
    (found,) = traverse(groups_of(rated, timed(again.layers), 32), None, fixed=round(again.fixed * 1e9))
    arch = arch_of(found, rated)
    chosen = [rated[stage][cell].cell for stage, (cell, _) in enumerate(found.choices)]
    nanoseconds, before = round(again.fixed * 1e9), FIRST_WIDTH
    for stage, cell in enumerate(chosen):
        shapes = stage_layers(stage, cell, before, 32)
        nanoseconds += sum(round(table.layers[x, op] * 1e9) for x, op in zip(shapes, arch.ops[stage], strict=True))
        before = cell.width
    assert found.costs == (nanoseconds,)


def test_damaged_tables_and_impossible_timings_are_refused(tmp_path: Path) -> None:
    save_table(tmp_path / "table.json", LatencyTable({(LayerShape(8, 8, 1, 4), 2): 0.5}, 0.1, {}))
    text = (tmp_path / "table.json").read_text()
    for damaged in (
        text.replace("MB6_7", "MB9_9"),
        text.replace('"fixed"', '"other"'),
        text.replace('"format": 1', '"format": 2'),
    ):
        (tmp_path / "table.json").write_text(damaged)
        with pytest.raises(RuntimeError, match=r"table\.json is no table of times"):
            load_table(tmp_path / "table.json")
    with pytest.raises(FileNotFoundError):
        load_table(tmp_path / "none.json")
    with pytest.raises(ValueError, match="repeats 0"):
        Timing(repeats=0)
