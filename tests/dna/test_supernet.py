"""The supernet: the released integers, ops between widths of the teacher, and nothing that a step does not take."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dna.archs import EXPANSIONS, KERNELS, OPS, Skeleton, path_ops
from dna.costs import LayerShape, op_costs
from dna.space import BlockSpace
from dna.supernet import InvertedResidual, Supernet, build_stem

B7_WIDTHS = (48, 80, 160, 224, 384, 640)
HEAD, CLASSIFIER = 821_760, 1_281_000
"""Parameters of the released supernet that nothing trains: 640 to 1280 channels with statistics, 1,000 classes."""


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_supernet_has_the_released_numbers_of_parameters() -> None:
    with torch.device("meta"):
        supernet = Supernet(BlockSpace(), B7_WIDTHS)
    stem = num_params(supernet.block(0).stem)
    layers = [num_params(supernet.block(stage).layers) for stage in range(6)]
    assert stem == 2_376
    assert layers == [111_372, 663_180, 2_188_320, 4_844_424, 12_371_952, 12_954_432]
    assert stem + sum(layers) + HEAD + CLASSIFIER == 35_238_816


def test_parts_have_the_released_names_and_shapes() -> None:
    op = InvertedResidual(12, 20, kernel=5, expansion=6, stride=2)
    shapes = {name: tuple(value.shape) for name, value in op.named_parameters()}
    assert shapes == {
        "conv_pw.weight": (72, 12, 1, 1),  # timm would round inner widths to multiples of 8
        "bn1.weight": (72,),
        "bn1.bias": (72,),
        "conv_dw.weight": (72, 1, 5, 5),
        "bn2.weight": (72,),
        "bn2.bias": (72,),
        "se.conv_reduce.weight": (3, 72, 1, 1),
        "se.conv_reduce.bias": (3,),
        "se.conv_expand.weight": (72, 3, 1, 1),
        "se.conv_expand.bias": (72,),
        "conv_pwl.weight": (20, 72, 1, 1),
        "bn3.weight": (20,),
        "bn3.bias": (20,),
    }
    assert (op.bn1.eps, op.bn1.momentum) == (1e-5, 0.1)
    assert InvertedResidual(3, 8, kernel=3, expansion=3, stride=1).se.conv_reduce.out_channels == 1


@pytest.mark.parametrize("op", range(6))
def test_ops_cost_what_the_cost_model_says(op: int) -> None:
    module = InvertedResidual(16, 24, kernel=KERNELS[op], expansion=EXPANSIONS[op], stride=2)
    assert num_params(module) == int(op_costs(LayerShape(16, 24, 2, 8)).num_params[op])
    assert OPS[op] == f"MB{EXPANSIONS[op]}_{KERNELS[op]}"


def test_an_op_computes_its_formula() -> None:
    torch.manual_seed(0)
    op = InvertedResidual(8, 8, kernel=3, expansion=3, stride=1).eval()
    x = torch.randn(2, 8, 5, 5)

    def silu(values: torch.Tensor) -> torch.Tensor:
        return values / (1 + (-values).exp())

    inner = silu(op.bn1(torch.einsum("oc,bchw->bohw", op.conv_pw.weight[:, :, 0, 0], x)))
    inner = silu(op.bn2(op.conv_dw(inner)))
    means = inner.mean((2, 3))
    reduce, expand = op.se.conv_reduce, op.se.conv_expand
    squeezed = silu(means @ reduce.weight[:, :, 0, 0].T + reduce.bias)
    gates = 1 / (1 + (-(squeezed @ expand.weight[:, :, 0, 0].T + expand.bias)).exp())
    expected = x + op.bn3(op.conv_pwl(inner * gates[:, :, None, None]))
    torch.testing.assert_close(op(x), expected)
    wider = InvertedResidual(8, 16, kernel=3, expansion=3, stride=1)
    strided = InvertedResidual(8, 8, kernel=3, expansion=3, stride=2)
    assert [op.has_skip, wider.has_skip, strided.has_skip] == [True, False, False]


def test_only_the_ops_of_a_path_and_the_stem_get_gradients(toy_space: BlockSpace, toy_widths: tuple[int, ...]) -> None:
    supernet = Supernet(toy_space, toy_widths)
    block, path = supernet.block(0), (4, 1)
    block(torch.randn(4, 3, 16, 16), path).square().mean().backward()
    named = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    taken = [f"blocks.0.0.layers.{layer}.{op}." for layer, op in enumerate(path)]
    expected = {name for name, _ in supernet.named_parameters() if name.startswith(("blocks.0.0.stem.", *taken))}
    assert named == expected
    assert len(expected) > 20


def test_every_path_has_the_shape_of_the_teachers_feature(toy_space: BlockSpace, toy_widths: tuple[int, ...]) -> None:
    supernet = Supernet(toy_space, toy_widths).eval()
    features, side = torch.randn(2, 3, 16, 16), 16 // toy_space.skeleton.stem_stride
    for stage, stride in enumerate(toy_space.skeleton.strides):
        side //= stride
        for cell, of_cell in enumerate(toy_space.stages()[stage]):
            block = supernet.block(stage, cell)
            for path in {0, block.num_paths // 2, block.num_paths - 1}:
                output = block(features, path_ops(path, of_cell.num_layers))
                assert output.shape == (2, toy_widths[stage], side, side)
        features = torch.randn(2, toy_widths[stage], side, side)


def test_weights_of_a_block_depend_on_the_seed_and_not_on_other_cells(
    toy_space: BlockSpace, toy_widths: tuple[int, ...]
) -> None:
    alone = replace(toy_space, cells=("2x8", "1x8", "2x8", "1x8", "1x8", "1x8"))
    states = [
        Supernet(space, toy_widths, seed).state_dict() for space, seed in ((toy_space, 3), (alone, 3), (alone, 4))
    ]
    two, one, other = states
    assert {*one} < {*two}
    assert all(torch.equal(two[name], value) for name, value in one.items())
    kernels = "blocks.{}.{}.layers.0.0.conv_pw.weight"
    assert not torch.equal(two[kernels.format(1, 0)], two[kernels.format(1, 1)])
    assert not torch.equal(one[kernels.format(2, 0)], other[kernels.format(2, 0)])


def test_the_stem_has_a_fixed_layer_without_a_skip() -> None:
    stem = build_stem(Skeleton(stem_width=8, first_width=8, stem_stride=1)).eval()
    x = torch.randn(1, 3, 4, 4)
    layer = stem[1]
    with torch.no_grad():
        for parameter in (layer.bn2.weight, layer.bn2.bias):
            parameter.zero_()
        assert torch.equal(stem(x), torch.zeros(1, 8, 4, 4))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (("2x8",) * 5, "give them for 6 stages"),
        (("2x8",) * 5 + ("2y8",), "'2y8' is no cell: write layers and width, such as 4x96"),
        (("2x8+2x8",) + ("2x8",) * 5, "give each cell once"),
        (("0x8",) + ("2x8",) * 5, "both must be 1 or more"),
    ],
)
def test_a_wrong_space_says_what_is_right(cells: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BlockSpace(cells=cells)


def test_a_resolution_that_breaks_a_stride_names_the_nearest_that_do_not() -> None:
    with pytest.raises(ValueError, match=r"resolution 230 is no multiple of 32.*take 224 or 256"):
        BlockSpace().check_resolution(230)
    with pytest.raises(ValueError, match=r"resolution 8 is no multiple of 32.*take 32"):
        BlockSpace().check_resolution(8)
    BlockSpace().check_resolution(224)
