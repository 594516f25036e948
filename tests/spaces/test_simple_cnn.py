"""The plain convolutional networks: numbering, costs, a forward pass written out, texts, other options."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from common.spaces import CnnArch, CnnLayer, CnnLayerOptions, Cost, SimpleCnn, SimpleCnnSpace

SPACE = SimpleCnnSpace()
OPTIONS = {
    f"conv_layer_{i}": {"kernel_size": [1, 3, 5], "bn": [False, True], "relu": [False, True], "filters": [8, 16, 32]}
    for i in range(3)
} | {"fully_connect": {"output_unit": [16, 20, 24, 28, 32]}}


def test_the_space_is_as_large_as_published() -> None:
    assert SPACE.size() == 36**3 * 5 == 233_280


def test_each_layer_is_walked_as_bn_filters_kernel_size_relu() -> None:
    keys = [f"conv_layer_{i}.{key}" for i in range(3) for key in ("bn", "filters", "kernel_size", "relu")]
    assert [axis.key for axis in SPACE.grid.axes] == [*keys, "fully_connect.output_unit"]
    assert SPACE.grid.sizes == (2, 3, 3, 2) * 3 + (5,)
    assert SPACE.grid.digits([777]).tolist() == [[0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 2, 1, 2]]
    plain = CnnLayer(filters=8, kernel_size=1, bn=False, relu=False)
    layers = (plain, replace(plain, kernel_size=5), CnnLayer(filters=16, kernel_size=5, bn=False, relu=True))
    assert SPACE.arch(777) == CnnArch(layers, 24)


def test_scaled_columns_have_mean_zero_and_deviation_one_over_the_space() -> None:
    features = SPACE.grid.features(SPACE.grid.digits(torch.arange(SPACE.size())))
    torch.testing.assert_close(features.mean(0), torch.zeros(13).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(13).double())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, SPACE.size() - 1))
def test_text_index_and_configuration_name_the_same_architecture(index: int) -> None:
    arch = SPACE.arch(index)
    assert SPACE.parse(SPACE.format(arch)) == arch
    assert SPACE.index(arch) == index
    stored = json.loads(json.dumps(SPACE.configuration(arch)))
    assert stored["conv_layer_1"]["bn"] is arch.layers[1].bn
    assert SPACE.from_configuration(stored) == arch


@pytest.mark.parametrize(
    ("text", "num_params", "macs"),
    [("8k1_8k1_8k1_16", 2_410, 47_264), ("32k5b_32k5br_32k5b_32", 70_634, 10_666_304)],
)
def test_networks_cost_what_is_published(text: str, num_params: int, macs: int, counted) -> None:
    arch = SPACE.parse(text)
    assert SPACE.cost(arch, 10, 32) == counted(SPACE, arch, 10, 32) == Cost(num_params=num_params, macs=macs)


@pytest.mark.parametrize("resolution", [8, 32, 40])
def test_the_closed_form_equals_what_hooks_count(resolution: int, counted) -> None:
    for arch in SPACE.sample(8, torch.Generator().manual_seed(resolution)):
        assert SPACE.cost(arch, 7, resolution) == counted(SPACE, arch, 7, resolution), SPACE.format(arch)


def test_the_maps_and_logits_are_those_of_the_layers_written_out() -> None:
    torch.manual_seed(0)
    network = SPACE.build(SPACE.parse("16k3br_8k1_32k5b_24"), 6, 32)
    images = torch.randn(4, 3, 32, 32)
    network(2 * images + 1)  # running statistics move away from 0 and 1
    network.eval()
    state = network.state_dict()
    with torch.no_grad():
        maps, logits = network.features_and_logits(images)
        x = images
        for i, (bn, relu) in enumerate([(True, True), (False, False), (True, False)]):
            weight = state[f"conv_layers.{i}.weight"]
            x = F.conv2d(x, weight, state[f"conv_layers.{i}.bias"], padding=(weight.shape[2] - 1) // 2)
            if bn:
                parts = (state[f"bn_layers.{i}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
                x = F.batch_norm(x, *parts)
            x = x.clamp(min=0) if relu else x
            x = torch.stack([x[..., a::2, b::2] for a in (0, 1) for b in (0, 1)]).amax(0)
            torch.testing.assert_close(maps[i], x)
        hidden = (x.reshape(4, -1) @ state["fc0.weight"].T + state["fc0.bias"]).clamp(min=0)
        torch.testing.assert_close(logits, hidden @ state["fc1.weight"].T + state["fc1.bias"])
        assert torch.equal(network(images), logits)
    assert [tuple(one.shape[1:]) for one in maps] == [(16, 16, 16), (8, 8, 8), (32, 4, 4)]


def test_official_weights_have_the_documented_names_and_shapes() -> None:
    state = SPACE.build(SPACE.parse("16k3br_8k1_32k5b_24"), 10, 32).state_dict()
    expected = {f"{name}.{key}" for name in ("conv_layers.0", "conv_layers.1", "conv_layers.2", "fc0", "fc1")
                for key in ("weight", "bias")}  # fmt: skip
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected |= {f"bn_layers.{i}.{key}" for i in (0, 2) for key in norm}
    assert set(state) == expected
    assert state["fc0.weight"].shape == (24, 32 * 16)
    assert state["fc1.weight"].shape == (10, 24)


def test_the_space_of_published_options_is_the_default_one() -> None:
    assert SimpleCnnSpace.from_options(OPTIONS) == SPACE
    fixed = SimpleCnnSpace.from_options(OPTIONS | {"fully_connect": {"output_unit": 24}})
    assert fixed.size() == 36**3
    assert fixed.arch(0).output_unit == 24
    assert fixed.name != SPACE.name


def changed(layer: str, **options: object) -> dict[str, object]:
    return {**OPTIONS, layer: {**OPTIONS.get(layer, {}), **options}}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (changed("conv_layer_3", bn=True), r"conv_layer_3\.bn is unknown"),
        ({key: OPTIONS[key] for key in list(OPTIONS)[1:]}, r"conv_layer_0\.bn is missing"),
        (changed("conv_layer_0", bn=[0, 2]), r"conv_layer_0\.bn has the option 2; true or false"),
        (changed("conv_layer_1", relu=["relu"]), r"conv_layer_1\.relu has the option 'relu', which is not a number"),
        (changed("conv_layer_2", kernel_size=[3, 4]), r"conv_layer_2\.kernel_size has the option 4; odd"),
        (changed("conv_layer_2", filters=[True]), r"conv_layer_2\.filters has the option True; positive integers"),
        (changed("fully_connect", output_unit=0), r"fully_connect\.output_unit has the option 0; positive integers"),
    ],
)
def test_wrong_options_are_refused_by_their_key(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SimpleCnnSpace.from_options(options)


def test_a_configuration_must_be_complete() -> None:
    configuration = SPACE.configuration(SPACE.arch(5))
    del configuration["fully_connect"]
    with pytest.raises(ValueError, match=r"fully_connect\.output_unit is missing"):
        SPACE.from_configuration(configuration)


@pytest.mark.parametrize(
    "text", ["", "24", "16k3", "16k3br_24_", "16k3rb_8k1_32k5_24", "16_8_32_24", "16k3 _8k1_32k5_24"]
)
def test_malformed_texts_are_refused_in_one_clear_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"architecture .* is malformed: .* like '16k3br_8k1_32k5b_24'") as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("16k3_8k1_24", "2 layers; three are needed"),
        ("17k3_8k1_8k1_24", r"conv_layer_0\.filters is 17; allowed are 8, 16, 32"),
        ("16k3_8k1_8k7_24", r"conv_layer_2\.kernel_size is 7; allowed are 1, 3, 5"),
        ("16k3_8k1_8k1_25", r"fully_connect\.output_unit is 25; allowed are 16, 20, 24, 28, 32"),
    ],
)
def test_architectures_outside_the_space_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"architecture '{text}': {reason}"):
        SPACE.parse(text)


@pytest.mark.parametrize("resolution", [0, -8, 20])
def test_images_must_be_divisible_by_eight(resolution: int) -> None:
    for act in (SPACE.build, SPACE.cost):
        with pytest.raises(ValueError, match=f"resolution {resolution} is not a positive multiple of 8"):
            act(SPACE.arch(0), 10, resolution)


def test_impossible_networks_are_refused() -> None:
    layer = CnnLayer(filters=8, kernel_size=3, bn=True, relu=True)
    for layers in (
        [layer] * 2,
        [layer, layer, replace(layer, kernel_size=2)],
        [layer, layer, replace(layer, filters=0)],
    ):
        with pytest.raises(ValueError, match="needed"):
            SimpleCnn(layers, 16, 10, 32)
    for unit, classes in ((0, 10), (16, 0)):
        with pytest.raises(ValueError, match="at least 1 is needed"):
            SimpleCnn([layer] * 3, unit, classes, 32)
    with pytest.raises(ValueError, match="2 layers; three are needed"):
        SimpleCnnSpace(layers=(CnnLayerOptions(),) * 2)
