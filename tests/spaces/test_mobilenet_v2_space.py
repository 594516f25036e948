"""The MobileNetV2 grid: published numbering, features, costs; texts, configurations, other options."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.spaces import Cost, MobileNetV2Arch, MobileNetV2Space

SPACE = MobileNetV2Space()
FOUR = MobileNetV2Space(
    channels=(*SPACE.channels[:4], 96, 160, 320), repetitions=(*SPACE.repetitions[:4], 3, 3, 1)
)  # layers 0 to 3 are searched
PAIRS = ((8, 16), (8, 16), (16, 24), (16, 32), (24, 40), (32, 48), (40, 64))
TOY = MobileNetV2Space(channels=PAIRS, repetitions=((1, 2),) * 7, first_stride=2, last_channel=128)
SPACES = [SPACE, FOUR, TOY]
LOW, HIGH = (16, 24, 32, 64, 96, 160, 320), (24, 32, 64, 96, 160, 320, 640)
COSTS = [  # parameters for 10 and for 100 classes, MACs for 100, at 32x32
    (SPACE.teacher, 2_236_682, 2_351_972, 24_576_512),
    (MobileNetV2Arch(LOW, (1,) * 7), 1_158_794, 1_274_084, 11_924_480),
    (MobileNetV2Arch(LOW, (4,) * 7), 6_472_058, 6_587_348, 48_973_568),
    (MobileNetV2Arch(HIGH, (1,) * 7), 3_432_970, 3_548_260, 28_714_240),
    (MobileNetV2Arch(HIGH, (4,) * 7), 23_620_210, 23_735_500, 147_079_936),
]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_spaces_are_as_large_as_published() -> None:
    assert SPACE.size() == 4**7 * 2**7 == 2_097_152
    assert FOUR.size() == 4096
    assert TOY.size() == 16_384


def test_channels_come_before_repetitions_and_the_last_layer_is_the_fastest() -> None:
    keys = [f"layer_{i}.{key}" for i in range(7) for key in ("channels", "repetitions")]
    assert [axis.key for axis in SPACE.grid.axes] == keys
    assert SPACE.grid.sizes == (2, 4) * 7


def test_published_indices_have_their_digits() -> None:
    digits = SPACE.grid.digits([12345, 7, 1048576]).tolist()
    assert digits[0] == [0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1, 3, 0, 1]
    assert digits[1] == [0] * 12 + [1, 3]
    assert digits[2] == [1] + [0] * 13
    assert SPACE.arch(12345) == MobileNetV2Arch((16, 24, 32, 64, 96, 320, 320), (1, 1, 4, 1, 1, 4, 2))


def test_indices_are_those_of_numpy_and_return_from_digits() -> None:
    ends = torch.tensor([0, SPACE.size() - 1])
    indices = torch.cat([ends, torch.randint(0, SPACE.size(), (20_000,), generator=draws())])
    digits = SPACE.grid.digits(indices)
    assert np.array_equal(digits.numpy(), np.stack(np.unravel_index(indices.numpy(), (2, 4) * 7), 1))
    assert torch.equal(SPACE.grid.indices(digits), indices)


def test_every_point_of_a_small_space_is_another_one_and_returns() -> None:
    archs = FOUR.archs(FOUR.grid.digits(torch.arange(4096)))
    assert len(set(archs)) == 4096
    stages = ([(c, n) for c in pair for n in (1, 2, 3, 4)] for pair in zip(LOW[:4], HIGH[:4], strict=True))
    rest = ((96, 3), (160, 3), (320, 1))
    expected = [zip(*first, *rest, strict=True) for first in itertools.product(*stages)]
    assert archs == [MobileNetV2Arch(*pairs) for pairs in expected]
    assert [FOUR.index(arch) for arch in archs[::97]] == list(range(4096))[::97]


def test_scaled_features_are_the_published_rows() -> None:
    row = torch.tensor([-1, -1.34164079] * 7, dtype=torch.float64)
    first, last = SPACE.encode([SPACE.arch(0), SPACE.arch(SPACE.size() - 1)])
    torch.testing.assert_close(first, row, rtol=0, atol=1e-8)
    assert torch.equal(last, -first)
    torch.testing.assert_close(
        SPACE.grid.scaled_levels[1], torch.tensor([-1.34164079, -0.4472136, 0.4472136, 1.34164079]).double()
    )
    for levels in SPACE.grid.scaled_levels[::2]:
        assert levels.tolist() == [-1, 1]


@pytest.mark.parametrize("space", [FOUR, TOY])
def test_scaled_columns_have_mean_zero_and_deviation_one_over_the_space(space: MobileNetV2Space) -> None:
    features = space.grid.features(space.grid.digits(torch.arange(space.size())))
    torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(features.shape[1]).double())


@pytest.mark.parametrize("space", SPACES)
def test_codes_are_the_features_of_the_digits(space: MobileNetV2Space) -> None:
    archs = space.sample(50, draws(3))
    indices = [space.index(arch) for arch in archs]
    assert torch.equal(space.encode(archs), space.grid.features(space.grid.digits(indices)))
    assert [space.arch(index) for index in indices] == archs
    assert space.encode([]).shape == (0, len(space.grid.axes))


@pytest.mark.parametrize(("arch", "ten", "hundred", "macs"), COSTS)
def test_costs_are_the_published_ones(arch: MobileNetV2Arch, ten: int, hundred: int, macs: int) -> None:
    assert SPACE.cost(arch, 10, 32).num_params == ten
    assert SPACE.cost(arch, 100, 32) == Cost(num_params=hundred, macs=macs)


@pytest.mark.parametrize(("arch", "ten", "hundred", "macs"), COSTS)
def test_hooks_count_the_published_costs(arch: MobileNetV2Arch, ten: int, hundred: int, macs: int, counted) -> None:
    assert counted(SPACE, arch, 10, 32).num_params == ten
    assert counted(SPACE, arch, 100, 32) == Cost(num_params=hundred, macs=macs)


@pytest.mark.parametrize(
    ("space", "resolution"),
    [
        (SPACE, 32),
        (SPACE, 33),
        (TOY, 16),
        (TOY, 1),
        (replace(SPACE, first_stride=2, width_mult=0.5), 224),
        (replace(SPACE, width_mult=1.4), 50),
        (replace(TOY, width_mult=0.1), 20),
    ],
)
def test_the_closed_form_equals_what_hooks_count(space: MobileNetV2Space, resolution: int, counted) -> None:
    for arch in (*space.sample(4, draws(resolution)), space.smallest):
        assert space.cost(arch, 7, resolution) == counted(space, arch, 7, resolution), space.format(arch)


def test_smallest_and_largest_are_the_ends_of_the_space() -> None:
    assert SPACE.smallest == MobileNetV2Arch(LOW, (1,) * 7)
    assert SPACE.largest == MobileNetV2Arch(HIGH, (4,) * 7)
    assert FOUR.smallest == MobileNetV2Arch(LOW, (1, 1, 1, 1, 3, 3, 1))
    assert (SPACE.index(SPACE.smallest), SPACE.index(SPACE.largest)) == (0, SPACE.size() - 1)


def test_the_teacher_is_a_point_of_the_space_and_can_be_built_for_others() -> None:
    assert SPACE.parse("16x1_24x2_32x3_64x4_96x3_160x3_320x1") == SPACE.teacher
    assert TOY.build(TOY.teacher, 3, 16) is not None
    with pytest.raises(ValueError, match=r"layer_1.channels is 24; allowed are 8, 16"):
        TOY.validate(TOY.teacher)


@pytest.mark.parametrize("space", SPACES)
def test_samples_lie_in_the_space_and_repeat_with_the_seed(space: MobileNetV2Space) -> None:
    archs = space.sample(200, draws(1))
    assert [space.validate(arch) for arch in archs] == archs == space.sample(200, draws(1))
    assert archs != space.sample(200, draws(2))
    assert space.sample(13, draws(1)) == archs[:13]
    assert space.sample(0, draws()) == []


def test_samples_are_uniform_on_every_axis() -> None:
    digits = torch.tensor([SPACE.digits(arch) for arch in SPACE.sample(2000, draws(5))])
    for column, size in zip(digits.unbind(1), SPACE.grid.sizes, strict=True):
        expected = 2000 / size
        assert (column.bincount(minlength=size) - expected).abs().max() < 5 * expected**0.5


@settings(max_examples=80, deadline=None)
@given(st.integers(0, SPACE.size() - 1))
def test_text_index_and_configuration_name_the_same_architecture(index: int) -> None:
    arch = SPACE.arch(index)
    text = SPACE.format(arch)
    assert SPACE.parse(text) == SPACE.parse(f" {text}\n") == arch
    assert SPACE.index(arch) == index
    stored = json.loads(json.dumps(SPACE.configuration(arch)))
    assert stored["layer_3"] == {"channels": arch.channels[3], "repetitions": arch.repetitions[3]}
    assert SPACE.from_configuration(stored) == arch


def test_a_configuration_takes_the_rest_from_the_teacher() -> None:
    assert SPACE.from_configuration({}) == SPACE.teacher
    assert SPACE.from_configuration({"layer_0": {"channels": 40}}).channels == (40, 24, 32, 64, 96, 160, 320)


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ({"layer_7": {"channels": 16}}, r"layer_7\.channels is unknown; known are layer_0\.channels"),
        ({"layer_0": 16}, "layer_0 is unknown"),
        ({"layer_0": {"channels": "16"}}, r"layer_0\.channels has the option '16', which is not a number"),
        ({"layer_0": {"channels": [16, 24]}}, r"layer_0\.channels has the option \(16, 24\)"),
        ({"layer_0": {"channels": 16.5}}, r"layer_0\.channels has the option 16\.5; positive integers"),
        ({"layer_0": {"repetitions": 0}}, r"layer_0\.repetitions has the option 0; positive integers"),
    ],
)
def test_a_wrong_configuration_is_refused_by_its_key(configuration: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SPACE.from_configuration(configuration)


@pytest.mark.parametrize(
    "text", ["", "16", "16x1_", "16x1_24x", "axb", "16x1-24x2", "16x1_24x2 32x3", "1_000x1", "9999999x1"]
)
def test_malformed_texts_are_refused_in_one_clear_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"architecture .* is malformed: .* like '16x1_24x2_32x3") as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("16x1_24x2_32x3_64x4_96x3_160x3", "6 channels and 6 repetitions; 7 of each are needed"),
        ("16x1_24x2_32x3_64x4_96x3_160x3_320x1_640x1", "8 channels and 8 repetitions; 7 of each are needed"),
        ("17x1_24x2_32x3_64x4_96x3_160x3_320x1", r"layer_0\.channels is 17; allowed are 16, 24"),
        ("16x1_24x2_32x3_64x4_96x3_160x3_320x5", r"layer_6\.repetitions is 5; allowed are 1, 2, 3, 4"),
    ],
)
def test_architectures_outside_the_space_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"architecture '{text}': {reason}"):
        SPACE.parse(text)


@pytest.mark.parametrize("index", [-1, 2_097_152, 1.0, True])
def test_indices_outside_the_space_are_refused(index: int) -> None:
    with pytest.raises(ValueError, match=r"index .*: 0 to 2097151 are architectures of mobilenet_v2-2097152-"):
        SPACE.arch(index)


def test_the_space_of_published_options_is_the_default_one() -> None:
    options = {
        f"layer_{i}": {"repetitions": [1, 2, 3, 4], "channels": [low, high]}
        for i, (low, high) in enumerate(zip(LOW, HIGH, strict=True))
    }
    assert MobileNetV2Space.from_options(options) == SPACE
    assert MobileNetV2Space.from_options({key: options[key] for key in options if key < "layer_4"}) == FOUR
    assert MobileNetV2Space.from_options({}).size() == 1


def test_a_list_of_one_option_is_an_axis_and_a_number_is_not() -> None:
    fixed = MobileNetV2Space.from_options({"layer_1": {"channels": 32, "repetitions": [2]}})
    assert [axis.key for axis in fixed.grid.axes] == ["layer_1.repetitions"]
    assert fixed.encode([fixed.smallest]).tolist() == [[0]]
    assert fixed.arch(0).channels == (16, 32, 32, 64, 96, 160, 320)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layer_7": {"channels": [16, 24]}}, r"layer_7\.channels is unknown"),
        ({"layer_0": {"channels": ["16", "24"]}}, r"layer_0\.channels has the option '16', which is not a number"),
        ({"layer_0": {"channels": [16.0]}}, r"layer_0\.channels has the option 16\.0; positive integers"),
        ({"layer_0": {"repetitions": [0, 1]}}, r"layer_0\.repetitions has the option 0; positive integers"),
        ({"layer_0": {"repetitions": True}}, r"layer_0\.repetitions has the option True; positive integers"),
        ({"layer_0": {"repetitions": [2, 2]}}, r"layer_0\.repetitions has equal options"),
        ({"layer_0": {"repetitions": []}}, r"layer_0\.repetitions has no options"),
    ],
)
def test_wrong_options_are_refused_by_their_key(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MobileNetV2Space.from_options(options)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"channels": ((16, 24),) * 6}, "seven of each"),
        ({"repetitions": (1,) * 8}, "seven of each"),
        ({"tap_indices": (0, 9)}, "taps (0, 9): increasing places from 0 to 8"),
        ({"tap_indices": (3, 2)}, "taps (3, 2): increasing places"),
        ({"tap_indices": (-1,)}, "taps (-1,): increasing places"),
        ({"first_stride": 3}, "first_stride 3: 1 (small images) or 2 (ImageNet)"),
        ({"last_channel": 0}, "last_channel, width_mult: positive numbers"),
        ({"width_mult": 0.0}, "last_channel, width_mult: positive numbers"),
    ],
)
def test_impossible_spaces_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        MobileNetV2Space(**fields)  # type: ignore[arg-type]
    assert reason in str(caught.value)


def test_deeper_spaces_have_more_places_for_taps() -> None:
    deep = MobileNetV2Space(repetitions=(4,) * 7, tap_indices=(0, 10, 29))
    assert deep.taps == ("features.0", "features.10", "features.29")
    assert SPACE.taps == ("features.0", "features.2", "features.3", "features.5", "features.7")


def test_the_name_tells_networks_and_indices_but_not_taps() -> None:
    names = {space.name for space in (SPACE, FOUR, TOY, replace(SPACE, first_stride=2), replace(SPACE, last_channel=8))}
    assert len(names) == 5
    assert SPACE.name.startswith("mobilenet_v2-2097152-")
    assert replace(SPACE, tap_indices=(2, 3)).name == SPACE.name
    other = (*SPACE.channels[:6], (640, 320))
    assert replace(SPACE, channels=other).name != SPACE.name  # the same networks under other indices


@pytest.mark.parametrize("resolution", [0, -32])
def test_images_without_pixels_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"resolution {resolution} is not positive"):
        SPACE.cost(SPACE.teacher, 10, resolution)
    with pytest.raises(ValueError, match=f"resolution {resolution} is not positive"):
        SPACE.build(SPACE.teacher, 10, resolution)
