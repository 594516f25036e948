"""Closed forms against published integers and against counting in built networks."""

import pytest
import torch
from torch import nn

from dna.archs import EXPANSIONS, FIRST_WIDTH, KERNELS, LAYERS, OPS, PUBLISHED, WIDTHS, Cell, DnaArch, path_ops
from dna.costs import (
    LayerShape,
    counted,
    fixed_costs,
    network_costs,
    op_costs,
    path_costs,
    side_of_stage,
    stage_layers,
    timed,
)
from dna.models import build

OFFICIAL = {
    (0, "first"): (32364388, 37181284, 44406628, 16257460, 18665908, 22278580),
    (0, "other"): (27699030, 34924374, 45762390, 13924782, 17537454, 22956462),
    (1, "first"): (17563478, 19369814, 22079318, 8813102, 9716270, 11071022),
    (1, "other"): (17566650, 20577210, 25093050, 8814690, 10319970, 12577890),
    (2, "first"): (12219770, 12972410, 14101370, 6125570, 6501890, 7066370),
    (2, "other"): (16326900, 17832180, 20090100, 8179140, 8931780, 10060740),
    (3, "first"): (19350004, 20855284, 23113204, 9696964, 10449604, 11578564),
    (3, "other"): (31297980, 33405372, 36566460, 15670956, 16724652, 18305196),
    (4, "first"): (21756700, 22283548, 23073820, 10887772, 11151196, 11546332),
    (4, "other"): (22540464, 23443632, 24798384, 11279664, 11731248, 12408624),
    (5, "first"): (29778352, 30681520, 32036272, 14904880, 15356464, 16033840),
}
"""Counts of the released counter at 224 pixels, for the layers of each stage."""
PARAMS = {
    (0, "first"): (6004, 3028),
    (0, "other"): (10710, 5382),
    (1, "first"): (13046, 6566),
    (1, "other"): (27450, 13770),
    (2, "first"): (37130, 18650),
    (2, "other"): (102900, 51540),
    (3, "first"): (118324, 59284),
    (3, "other"): (197820, 99036),
    (4, "first"): (251740, 126076),
    (4, "other"): (569520, 284976),
    (5, "first"): (717232, 358960),
}
"""Parameters of MB6_3 and MB3_3."""
WHOLE = {
    "DNA_a": (4_243_318, 348_161_054, 335_141_728),
    "DNA_b": (4_918_180, 405_784_844, 392_492_032),
    "DNA_c": (5_273_896, 465_920_048, 450_138_976),
    "DNA_d": (6_409_486, 611_198_918, 592_837_792),
}
EFFICIENTNET_B0 = DnaArch(((0, 0), (1, 1), (0, 0, 0), (1, 1, 1), (1, 1, 1, 1), (0,)))


def layer_of(stage: int, place: str) -> LayerShape:
    in_width = (FIRST_WIDTH, *WIDTHS)[stage]
    return stage_layers(stage, Cell(2, WIDTHS[stage]), in_width, 224)[place == "other"]


@pytest.mark.parametrize(("stage", "place"), OFFICIAL)
def test_every_op_costs_what_the_released_counter_says(stage: int, place: str) -> None:
    costs = op_costs(layer_of(stage, place))
    assert tuple(costs.official_macs.tolist()) == OFFICIAL[stage, place]
    assert (costs.num_params[0], costs.num_params[3]) == PARAMS[stage, place]


@pytest.mark.parametrize("name", WHOLE)
def test_published_networks_cost_what_is_published(name: str) -> None:
    costs = network_costs(PUBLISHED[name], 1000, 224)
    assert (costs.num_params, costs.official_macs, costs.macs) == WHOLE[name]


def test_the_fixed_parts_and_efficientnet_b0_cost_what_is_known() -> None:
    fixed = fixed_costs(320, 1000, 224)
    assert fixed.official_macs == 22_880_808 + 20_195_840 + 62_720 + 1_280_000
    assert fixed.num_params == 2_376 + 412_160 + 1_281_000
    b0 = network_costs(EFFICIENTNET_B0, 1000, 224)
    assert (b0.num_params, b0.official_macs) == (5_288_548, 399_362_204)


def count(arch: DnaArch, num_classes: int, resolution: int) -> tuple[int, int, int]:
    """Parameters, multiply-accumulates and the released count, by hooks on the built network."""
    totals = {"macs": 0, "extra": 0}

    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            taps = module.weight[0].numel()
            totals["macs"] += output[0].numel() * taps
            totals["extra"] += output[0].numel() if module.bias is not None else 0
        elif isinstance(module, nn.Linear):
            totals["macs"] += module.weight.numel()
        elif isinstance(module, nn.BatchNorm2d):
            totals["extra"] += 2 * inputs[0][0].numel()
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            totals["extra"] += inputs[0][0].numel()

    with torch.device("meta"):
        network = build(arch, num_classes).eval()
        for module in network.modules():
            module.register_forward_hook(hook)
        network(torch.empty(1, 3, resolution, resolution))
    return sum(p.numel() for p in network.parameters()), totals["macs"], totals["macs"] + totals["extra"]


@pytest.mark.parametrize("resolution", [224, 240, 97, 33])
def test_closed_forms_equal_counting_at_every_resolution(small: DnaArch, resolution: int) -> None:
    for arch in (small, PUBLISHED["DNA_d"]):
        costs = network_costs(arch, 11, resolution)
        assert (costs.num_params, costs.macs, costs.official_macs) == count(arch, 11, resolution)


def test_paths_cost_the_sum_of_their_layers_in_path_order() -> None:
    layers = stage_layers(2, Cell(3, 80), 40, 224)
    each = [op_costs(layer).macs for layer in layers]
    found = path_costs(layers, counted("macs"))
    assert found.tolist() == [sum(int(c[op]) for c, op in zip(each, path_ops(p, 3), strict=True)) for p in range(216)]
    both = path_costs(layers, counted("macs", "num_params"))
    assert both[:, 0].tolist() == found.tolist()
    assert both[:, 1].tolist() == path_costs(layers, counted("num_params")).tolist()


def test_stages_and_fixed_parts_add_up_to_the_network() -> None:
    arch, total = PUBLISHED["DNA_c"], fixed_costs(320, 1000, 224)
    official, in_width = int(total.official_macs), FIRST_WIDTH
    for stage, (ops, width) in enumerate(zip(arch.ops, arch.widths, strict=True)):
        costs = path_costs(stage_layers(stage, Cell(len(ops), width), in_width, 224), counted("official_macs"))
        official += int(costs.reshape((6,) * len(ops))[ops])
        in_width = width
    assert official == WHOLE["DNA_c"][1]


def test_stages_see_the_published_sides() -> None:
    assert [side_of_stage(stage, 224) for stage in range(7)] == [112, 56, 28, 14, 14, 7, 7]
    assert [len(stage_layers(s, Cell(LAYERS[s], WIDTHS[s]), 16, 224)) for s in range(6)] == [2, 4, 4, 4, 4, 1]


def test_measured_times_become_whole_nanoseconds() -> None:
    layer = LayerShape(16, 24, 2, 112)
    table = {(layer, op): 1e-3 * KERNELS[op] + 1e-9 * EXPANSIONS[op] for op in range(len(OPS))}
    assert timed(table)(layer).tolist() == [3000006, 5000006, 7000006, 3000003, 5000003, 7000003]
    with pytest.raises(ValueError, match="the table has no time of MB6_3, MB6_5, MB6_7, MB3_3, MB3_5, MB3_7 at"):
        timed(table)(LayerShape(16, 32, 2, 112))
    with pytest.raises(ValueError, match="no time of MB6_7 at"):
        timed(table | {(layer, 2): 0.0})(layer)
