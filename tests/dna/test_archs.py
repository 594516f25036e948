import itertools

import pytest

from dna.archs import (
    EXPANSIONS,
    KERNELS,
    OPS,
    PUBLISHED,
    Cell,
    DnaArch,
    format_arch,
    parse_arch,
    path_index,
    path_ops,
    timm_definition,
)

KERNEL_AND_EXPANSION = {
    "DNA_a": "24 53 33 36 | 40 33 33 53 36 | 80 76 33 53 36 | 96 56 53 53 56 | 160 56 53 53 53 56 | 320 36",
    "DNA_b": "24 33 53 76 | 40 76 53 76 | 80 56 53 53 36 | 96 56 53 53 56 | 192 76 53 53 53 76 | 320 36",
    "DNA_c": "24 56 36 | 40 56 56 36 56 | 80 56 36 56 56 | 112 36 56 56 53 | 192 56 53 56 56 | 320 36",
    "DNA_d": "24 76 56 76 | 40 76 76 76 76 | 80 76 56 56 76 | 112 76 56 76 56 | 192 76 56 56 56 76 | 320 36",
}
"""As published: the width of each stage, then kernel and expansion of each layer."""


@pytest.mark.parametrize("name", KERNEL_AND_EXPANSION)
def test_the_published_networks_have_the_published_layers(name: str) -> None:
    stages = [stage.split() for stage in KERNEL_AND_EXPANSION[name].split("|")]
    arch = PUBLISHED[name]
    assert arch.widths == tuple(int(stage[0]) for stage in stages)
    described = [[f"{KERNELS[op]}{EXPANSIONS[op]}" for op in ops] for ops in arch.ops]
    assert described == [stage[1:] for stage in stages]


def test_ops_are_named_by_expansion_and_kernel() -> None:
    assert [f"MB{e}_{k}" for e, k in zip(EXPANSIONS, KERNELS, strict=True)] == list(OPS)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_paths_are_in_the_order_of_the_product_of_ops(num_layers: int) -> None:
    expected = list(itertools.product(range(6), repeat=num_layers))
    assert [path_ops(path, num_layers) for path in range(Cell(num_layers, 8).num_paths)] == expected
    assert [path_index(ops) for ops in expected] == list(range(len(expected)))


def test_stages_have_the_published_numbers_of_paths() -> None:
    assert [Cell(num, 8).num_paths for num in (2, 4, 4, 4, 4, 1)] == [36, 1296, 1296, 1296, 1296, 6]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_text_form_and_the_name_give_the_network_back(name: str) -> None:
    arch = PUBLISHED[name]
    for text in (format_arch(arch), name, name.lower(), name.replace("_", "-")):
        assert parse_arch(text) == arch
    assert hash(parse_arch(name)) == hash(arch)


def test_only_the_first_layer_of_a_stage_has_its_stride() -> None:
    definition = timm_definition(PUBLISHED["DNA_b"])
    assert definition[0] == ["ds_r1_k3_s1_c16_se0.25"]
    assert definition[1] == [
        "ir_r1_k3_s2_e3_c24_se0.25",
        "ir_r1_k5_s1_e3_c24_se0.25",
        "ir_r1_k7_s1_e6_c24_se0.25",
    ]
    assert [stage[0].split("_s")[1][0] for stage in definition[1:]] == ["2", "2", "2", "1", "2", "1"]


@pytest.mark.parametrize(
    "text", ["DNA_e", "", "24:10", "24:16|40:0|80:0|112:0|192:0|320:0", "a:0|40:0|80:0|112:0|192:0|320:0"]
)
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"give DNA_a, DNA_b, DNA_c, DNA_d, or a text such as 24:10\|40:1101|stages"):
        parse_arch(text)


@pytest.mark.parametrize(
    ("ops", "widths", "message"),
    [
        (((0,),) * 5, (8,) * 5, "6 stages"),
        (((0,),) * 5 + ((),), (8,) * 6, "at least one layer"),
        (((0,),) * 5 + ((6,),), (8,) * 6, "each of 0 to 5"),
        (((0,),) * 6, (8,) * 5 + (0,), "1 or more"),
    ],
)
def test_what_is_no_network_is_refused(ops: tuple[tuple[int, ...], ...], widths: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DnaArch(ops, widths)


def test_paths_and_cells_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="path 36 of 2 layers: there are 36"):
        path_ops(36, 2)
    with pytest.raises(ValueError, match="both must be 1 or more"):
        Cell(0, 8)
