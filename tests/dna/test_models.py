"""The built networks against the published figures, names and shapes, and an independent forward pass."""

import re
from collections.abc import Callable, Iterator

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import dna
from dna.archs import EXPANSIONS, KERNELS, PUBLISHED, STRIDES, DnaArch
from dna.models import build

FACTS = {
    "DNA_a": (4_243_318, 335_141_728, 492),
    "DNA_b": (4_918_180, 392_492_032, 470),
    "DNA_c": (5_273_896, 450_138_976, 448),
    "DNA_d": (6_409_486, 592_837_792, 492),
}
"""Parameters, multiply-accumulates of convolutions and linear layers at 224 pixels, entries of the state dict."""


def expected_shapes(arch: DnaArch, num_classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a released checkpoint."""

    def norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{part}", (width,)
        yield f"{name}.num_batches_tracked", ()

    def gate(name: str, width: int, squeezed: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.se.conv_reduce.weight", (squeezed, width, 1, 1)
        yield f"{name}.se.conv_reduce.bias", (squeezed,)
        yield f"{name}.se.conv_expand.weight", (width, squeezed, 1, 1)
        yield f"{name}.se.conv_expand.bias", (width,)

    yield "conv_stem.weight", (32, 3, 3, 3)
    yield from norm("bn1", 32)
    yield "blocks.0.0.conv_dw.weight", (32, 1, 3, 3)
    yield from norm("blocks.0.0.bn1", 32)
    yield from gate("blocks.0.0", 32, 8)
    yield "blocks.0.0.conv_pw.weight", (16, 32, 1, 1)
    yield from norm("blocks.0.0.bn2", 16)
    before = 16
    for stage, (ops, width) in enumerate(zip(arch.ops, arch.widths, strict=True), 1):
        for layer, op in enumerate(ops):
            name, inner, kernel = f"blocks.{stage}.{layer}", EXPANSIONS[op] * before, KERNELS[op]
            yield f"{name}.conv_pw.weight", (inner, before, 1, 1)
            yield from norm(f"{name}.bn1", inner)
            yield f"{name}.conv_dw.weight", (inner, 1, kernel, kernel)
            yield from norm(f"{name}.bn2", inner)
            yield from gate(name, inner, max(1, before // 4))
            yield f"{name}.conv_pwl.weight", (width, inner, 1, 1)
            yield from norm(f"{name}.bn3", width)
            before = width
    yield "conv_head.weight", (1280, before, 1, 1)
    yield from norm("bn2", 1280)
    yield "classifier.weight", (num_classes, 1280)
    yield "classifier.bias", (num_classes,)


def reference_forward(state: dict[str, Tensor], arch: DnaArch, x: Tensor) -> Tensor:
    """Outputs in eval mode, in functional form over a state dict."""

    def norm(x: Tensor, name: str) -> Tensor:
        values = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *values)

    def conv(x: Tensor, name: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        weight = state[f"{name}.weight"]
        groups = len(weight) if depthwise else 1
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)

    def gated(x: Tensor, name: str) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        reduced = functional.conv2d(mean, *(state[f"{name}.se.conv_reduce.{part}"] for part in ("weight", "bias")))
        reduced = reduced * torch.sigmoid(reduced)
        expanded = functional.conv2d(reduced, *(state[f"{name}.se.conv_expand.{part}"] for part in ("weight", "bias")))
        return x * torch.sigmoid(expanded)

    silu = functional.silu
    x = silu(norm(conv(x, "conv_stem", 2), "bn1"))
    x = gated(silu(norm(conv(x, "blocks.0.0.conv_dw", depthwise=True), "blocks.0.0.bn1")), "blocks.0.0")
    x = norm(conv(x, "blocks.0.0.conv_pw"), "blocks.0.0.bn2")
    for stage, ops in enumerate(arch.ops, 1):
        for layer in range(len(ops)):
            name, stride = f"blocks.{stage}.{layer}", STRIDES[stage - 1] if layer == 0 else 1
            y = silu(norm(conv(x, f"{name}.conv_pw"), f"{name}.bn1"))
            y = gated(silu(norm(conv(y, f"{name}.conv_dw", stride, depthwise=True), f"{name}.bn2")), name)
            y = norm(conv(y, f"{name}.conv_pwl"), f"{name}.bn3")
            x = x + y if x.shape == y.shape and stride == 1 else y
    x = silu(norm(conv(x, "conv_head"), "bn2")).mean((2, 3))
    return functional.linear(x, state["classifier.weight"], state["classifier.bias"])


@pytest.mark.parametrize("name", FACTS)
def test_timm_creates_networks_of_the_published_size(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name.lower()).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 224, 224))
    num_params = sum(value.numel() for value in network.parameters())
    assert (num_params, counter.get_total_flops() // 2, len(network.state_dict())) == FACTS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_have_the_released_names_order_and_shapes(name: str) -> None:
    with torch.device("meta"):
        state = build(PUBLISHED[name]).state_dict()
    assert [(key, tuple(value.shape)) for key, value in state.items()] == [*expected_shapes(PUBLISHED[name], 1000)]


@pytest.mark.parametrize("name", ["small", "DNA_a"])
def test_outputs_equal_those_of_an_independent_forward_pass(
    name: str, small: DnaArch, random_state: Callable[..., dict[str, Tensor]]
) -> None:
    arch = PUBLISHED.get(name, small)
    state = random_state(arch, 5, 3)
    network = build(arch, 5).eval()
    network.load_state_dict(state)
    images = torch.randn(2, 3, 45, 45, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference_forward(state, arch, images)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["DNA_a", "DNA_d"])
def test_stages_have_the_published_outputs_at_224_pixels(name: str) -> None:
    with torch.device("meta"):
        found = build(PUBLISHED[name]).forward_intermediates(  # type: ignore[operator]
            torch.empty(1, 3, 224, 224), indices=list(range(1, 8)), extra_blocks=True, intermediates_only=True
        )
    widths = (16, *PUBLISHED[name].widths)
    assert [tuple(x.shape[1:]) for x in found] == [
        (width, side, side) for width, side in zip(widths, (112, 56, 28, 14, 14, 7, 7), strict=True)
    ]


def test_registered_networks_take_the_options_of_timm() -> None:
    assert set(timm.list_models("dna_*")) == {"dna_a", "dna_b", "dna_c", "dna_d", "dna_teacher"}
    with torch.device("meta"):
        network = timm.create_model("dna_b", num_classes=10, drop_rate=0.5, drop_path_rate=0.0)
        features = timm.create_model("dna_c", features_only=True)(torch.empty(1, 3, 64, 64))
    assert (network.classifier.out_features, network.drop_rate) == (10, 0.5)
    assert [tuple(x.shape[1:]) for x in features] == [
        (16, 32, 32),
        (24, 16, 16),
        (40, 8, 8),
        (112, 4, 4),
        (320, 2, 2),
    ]
    assert (network.default_cfg["crop_pct"], network.default_cfg["interpolation"]) == (0.875, "bicubic")
    assert dna.dna_b.__name__ == "dna_b"


def test_layer_i_of_n_drops_its_branch_with_i_nths_of_the_rate() -> None:
    with torch.device("meta"):
        network = build(PUBLISHED["DNA_a"], drop_path_rate=0.2)
    blocks = [block for stage in network.blocks for block in stage]  # type: ignore[union-attr]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.2 * index / len(blocks) for index in range(len(blocks))])
    assert network.drop_rate == 0.2


def test_pretrained_weights_widths_timm_would_round_and_no_classes_are_refused(small: DnaArch) -> None:
    with pytest.raises(ValueError, match="there is no fixed address for weights of dna_a: leave pretrained off"):
        timm.create_model("dna_a", pretrained=True)
    with pytest.raises(ValueError, match=re.escape("widths [12] are no multiples of 8")):
        build(DnaArch(small.ops, (8, 12, 16, 16, 24, 24)))
    with pytest.raises(ValueError, match="num_classes is 0"):
        build(small, 0)
