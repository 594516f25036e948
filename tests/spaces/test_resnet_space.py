"""The depth x width space: its size, its sampler, text form, codes and costs."""

import math
import statistics
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.spaces import ResNetArch, ResNetSpace
from common.spaces.resnet import MULTIPLIERS

SPACE = ResNetSpace()
STAGE_PINNED = ResNetSpace(pin="stage")
SMALL = ResNetSpace(teacher_widths=(16, 32, 48, 64), max_depth=3)
SPACES = [SPACE, STAGE_PINNED, SMALL]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def architectures(draw: st.DrawFn, space: ResNetSpace) -> ResNetArch:
    """Any architecture of a space, built without its sampler."""
    stages = []
    for stage in range(4):
        free = draw(st.lists(st.sampled_from(space.stage_widths(stage)), max_size=space.max_depth - 1))
        pinned = space.pin == "stage" or stage == 3
        last = space.teacher_widths[stage] if pinned else draw(st.sampled_from(space.stage_widths(stage)))
        stages.append((*free, last))
    return ResNetArch(tuple(stages))


def spaces_and_architectures() -> st.SearchStrategy[tuple[ResNetSpace, ResNetArch]]:
    return st.sampled_from(SPACES).flatmap(lambda space: st.tuples(st.just(space), architectures(space)))


def test_the_space_is_as_large_as_published() -> None:
    assert sum(9**depth for depth in range(1, 6)) == 66_429
    assert SPACE.size() == 66_429**3 * 7_381 == 2_163_656_678_799_398_409
    assert STAGE_PINNED.size() == 7_381**4


def test_the_size_is_the_number_of_architectures_one_can_write_down() -> None:
    for pin in ("net", "stage"):
        space = ResNetSpace(teacher_widths=(16, 16, 16, 16), max_depth=1, pin=pin)
        valid = 0
        for widths in product(range(8, 17), repeat=4):
            try:
                space.validate(ResNetArch(tuple((width,) for width in widths)))
            except ValueError:
                continue
            valid += 1
        assert space.size() == valid == (729 if pin == "net" else 1)


def test_widths_are_nine_sixteenths_steps_of_the_teachers() -> None:
    assert MULTIPLIERS == (0.5, 0.5625, 0.625, 0.6875, 0.75, 0.8125, 0.875, 0.9375, 1.0)
    assert SPACE.stage_widths(0) == (16, 18, 20, 22, 24, 26, 28, 30, 32)
    assert SPACE.stage_widths(3) == tuple(int(256 * multiplier) for multiplier in MULTIPLIERS)


def test_teacher_and_smallest_are_the_ends_of_the_space() -> None:
    assert SPACE.format(SPACE.smallest) == "16_32_64_256"
    assert STAGE_PINNED.format(STAGE_PINNED.smallest) == "32_64_128_256"
    for space in SPACES:
        least, most = (space.cost(space.validate(arch), 10, 32) for arch in (space.smallest, space.teacher))
        for arch in space.sample(300, draws(4)):
            cost = space.cost(arch, 10, 32)
            assert least.num_params <= cost.num_params <= most.num_params
            assert least.macs <= cost.macs <= most.macs


@pytest.mark.parametrize("space", SPACES)
def test_all_samples_lie_in_the_space(space: ResNetSpace) -> None:
    for arch in space.sample(500, draws(1)):
        assert arch.widths[3][-1] == space.teacher_widths[3]
        for stage, widths in enumerate(arch.widths):
            assert 1 <= len(widths) <= space.max_depth
            assert all(width * 16 % space.teacher_widths[stage] == 0 for width in widths)
            assert all(space.teacher_widths[stage] // 2 <= width <= space.teacher_widths[stage] for width in widths)
            if space.pin == "stage":
                assert widths[-1] == space.teacher_widths[stage]


def test_samples_repeat_with_the_seed_and_the_first_thousand_differ() -> None:
    first = SPACE.sample(1000, draws(0))
    assert first == SPACE.sample(1000, draws(0))
    assert first != SPACE.sample(1000, draws(1))
    assert len(set(first)) == 1000


@pytest.mark.parametrize("space", SPACES)
def test_a_longer_sample_begins_with_the_shorter_one(space: ResNetSpace) -> None:
    assert space.sample(200, draws(3))[:13] == space.sample(13, draws(3))


def test_depths_and_free_multipliers_are_uniform() -> None:
    archs = SPACE.sample(4000, draws(5))
    depths = torch.tensor([arch.depths for arch in archs])
    for stage in range(4):
        counts = depths[:, stage].bincount(minlength=6)[1:]
        assert (counts - 800).abs().max() < 5 * 800**0.5
    first = torch.tensor([arch.widths[0][0] for arch in archs]) // 2 - 8
    assert (first.bincount(minlength=9) - 4000 / 9).abs().max() < 5 * (4000 / 9) ** 0.5


def expected_cost(space: ResNetSpace, num_classes: int, resolution: int) -> tuple[float, float]:
    """Mean parameters and MACs under uniform depths and multipliers, from moments of independent widths."""
    mean_multiplier = statistics.fmean(MULTIPLIERS)
    mean_square = statistics.fmean(multiplier**2 for multiplier in MULTIPLIERS)
    stem = mean_multiplier * space.teacher_widths[0]
    params, macs = 29 * stem, 27 * stem * resolution**2
    before = 0.0  # mean width of the last block of the stage before
    for stage, full in enumerate(space.teacher_widths):
        mean, square, side = mean_multiplier * full, mean_square * full**2, resolution // 2**stage
        kernels = biases = 0.0
        for depth in range(1, space.max_depth + 1):
            for block in range(depth):
                last = stage == 3 and block == depth - 1
                own, own_square = (full, full**2) if last else (mean, square)
                from_stem = stage == 0 and block == 0  # which has the first block's width
                into = own_square if from_stem else own * (before if block == 0 else mean)
                kernels += 9 * (into + own_square) / space.max_depth
                biases += 4 * own / space.max_depth
        params, macs, before = params + kernels + biases, macs + kernels * side**2, mean
    last_width = space.teacher_widths[3]
    return params + (last_width + 1) * num_classes, macs + last_width * num_classes


def test_mean_costs_are_the_published_ones_within_the_error_of_sampling() -> None:
    costs = [SPACE.cost(arch, 40, 64) for arch in SPACE.sample(20_000, draws(0))]
    exact_params, exact_macs = expected_cost(SPACE, 40, 64)
    for values, exact, published, rounding in (
        ([cost.num_params for cost in costs], exact_params, 2.84e6, 0.005e6),
        ([cost.macs for cost in costs], exact_macs, 514e6, 0.5e6),
    ):
        error = statistics.stdev(values) / len(values) ** 0.5
        assert abs(statistics.fmean(values) - exact) < 4 * error
        assert abs(published - exact) < 4 * error + rounding  # the published mean is one of 20,000 samples too


@settings(max_examples=150, deadline=None)
@given(spaces_and_architectures())
def test_text_parses_back_to_the_architecture(case: tuple[ResNetSpace, ResNetArch]) -> None:
    space, arch = case
    text = space.format(arch)
    assert space.parse(text) == arch
    assert space.parse(f" {text}\n") == arch


def test_the_text_form_is_the_documented_one() -> None:
    arch = SPACE.parse("18-32_36_72-128-104_144-256-160-256")
    assert arch.widths == ((18, 32), (36,), (72, 128, 104), (144, 256, 160, 256))
    assert arch.depths == (2, 1, 3, 4)


@pytest.mark.parametrize(
    "text", ["", "_", "32", "a_b_c_d", "32-_64_128_256", "32__128_256", "32,64,128,256", "-32_64_128_256"]
)
def test_malformed_texts_are_refused_in_one_clear_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"architecture .* (is malformed|has 1 stages; 4 are needed)") as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789-_ x.", max_size=20))
def test_no_text_fails_otherwise_than_with_a_value_error_about_it(text: str) -> None:
    try:
        SPACE.parse(text)
    except ValueError as error:
        message = str(error)
    else:
        return
    assert message.startswith("architecture ")


@pytest.mark.parametrize(
    ("space", "text", "reason"),
    [
        (SPACE, "32_64_128", "has 3 stages; 4 are needed"),
        (SPACE, "32_64_128_256_256", "has 5 stages; 4 are needed"),
        (SPACE, "17_64_128_256", r"width 17 in stage 1; allowed are \(16, 18"),
        (SPACE, "32_64_128-256_256", "width 256 in stage 3"),
        (SPACE, "32_64_128_256-144", "last block of stage 4 has width 144; it must keep the teacher's 256"),
        (SPACE, "32-32-32-32-32-32_64_128_256", "stage 1 has 6 blocks; 1 to 5 are allowed"),
        (SMALL, "16-16-16-16_32_48_64", "stage 1 has 4 blocks; 1 to 3 are allowed"),
        (STAGE_PINNED, "18_64_128_256", "last block of stage 1 has width 18; it must keep the teacher's 32"),
    ],
)
def test_architectures_outside_the_space_are_refused_with_the_reason(
    space: ResNetSpace, text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        space.parse(text)


@settings(max_examples=150, deadline=None)
@given(spaces_and_architectures())
def test_codes_decode_back_to_the_architecture(case: tuple[ResNetSpace, ResNetArch]) -> None:
    space, arch = case
    code = space.encode([arch])
    assert code.sum() == 1 + sum(arch.depths)
    assert space.decode(code) == [arch]


def test_a_code_is_laid_out_as_documented() -> None:
    arch = SPACE.parse("18-32_36_72-128-104_144-256-160-256")
    expected = torch.zeros(181)
    expected[0] = 1
    for stage, widths in enumerate(arch.widths):
        for block, width in enumerate(widths):
            multiplier = width / SPACE.teacher_widths[stage]
            expected[1 + (5 * stage + block) * 9 + round((multiplier - 0.5) * 16)] = 1
    assert torch.equal(SPACE.encode([arch]), expected[None])


def test_codes_have_181_numbers_and_109_at_depth_three() -> None:
    assert SPACE.code_length == 181
    assert SPACE.encode([SPACE.teacher]).shape == (1, 181)
    assert SPACE.encode([SPACE.teacher]).sum() == 21
    assert SMALL.code_length == 109
    assert SMALL.encode(SMALL.sample(4, draws())).shape == (4, 109)
    assert SPACE.encode([]).shape == (0, 181)
    assert SPACE.decode(torch.zeros(0, 181)) == []


def test_equal_codes_mean_equal_architectures() -> None:
    archs = SPACE.sample(500, draws(2))
    assert len({tuple(code) for code in SPACE.encode(archs).tolist()}) == len(set(archs))


def spoiled(index: int, value: float) -> torch.Tensor:
    code = SPACE.encode([SPACE.parse("18-32_36_72-128-104_144-256")])
    code[0, index] = value
    return code


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(spoiled(0, 0.0), id="no constant"),
        pytest.param(spoiled(1, 1.0), id="two multipliers in one slot"),
        pytest.param(spoiled(2, 0.5), id="half a block"),
        pytest.param(spoiled(2, float("nan")), id="nan"),
        pytest.param(spoiled(2, 0.0), id="gap before a block"),
        pytest.param(torch.randn(2, 181, generator=draws()), id="noise"),
    ],
)
def test_foreign_codes_are_refused(code: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"code is not of this space"):
        SPACE.decode(code)


@pytest.mark.parametrize("code", [spoiled(1 + 5 * 9 + 1, 0.0), torch.zeros(1, 181)])
def test_codes_with_an_empty_stage_are_refused(code: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"code is not of this space"):
        SPACE.decode(code)


@pytest.mark.parametrize("shape", [(181,), (1, 109), (1, 1, 181)])
def test_codes_of_another_length_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, 181\) is needed for resnet-32-64-128-256x5"):
        SPACE.decode(torch.zeros(shape))


@pytest.mark.parametrize("text", ["32_64_128_256-200", "36_64_128_256", "32-32-32-32-32-32_64_128_256"])
def test_architectures_outside_the_space_have_no_code(text: str) -> None:
    foreign = ResNetArch(tuple(tuple(map(int, stage.split("-"))) for stage in text.split("_")))
    with pytest.raises(ValueError, match="architecture"):
        SPACE.encode([SPACE.teacher, foreign])


def test_the_name_tells_what_codes_depend_on() -> None:
    assert SPACE.name == STAGE_PINNED.name == "resnet-32-64-128-256x5"
    assert SMALL.name == "resnet-16-32-48-64x3"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"teacher_widths": (32, 64, 128)}, "four stages"),
        ({"teacher_widths": (32, 64, 128, 250)}, "multiples of 16"),
        ({"teacher_widths": (0, 64, 128, 256)}, "multiples of 16"),
        ({"max_depth": 0}, "max_depth 0: at least 1"),
        ({"pin": "block"}, "pin 'block': 'net' or 'stage'"),
    ],
)
def test_impossible_spaces_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ResNetSpace(**fields)  # type: ignore[arg-type]


def test_compact_codes_are_multipliers_and_the_logarithms_of_cost_shares() -> None:
    space = ResNetSpace(code="compact")
    arch = space.parse("18-32_36_72-128-104_144-256")
    code = space.encode([arch])[0]
    assert len(code) == space.code_length == 23
    assert code[:6].tolist() == [1, 18 / 32, 1, 0, 0, 0]
    assert code[16:21].tolist() == [144 / 256, 1, 0, 0, 0]
    for share, value in zip(("num_params", "macs"), code[-2:].tolist(), strict=True):
        without_classifier = [getattr(space.cost(a, 0, 64), share) for a in (arch, space.teacher)]
        assert value == pytest.approx(4 * math.log(without_classifier[0] / without_classifier[1]), rel=1e-5)


def test_compact_codes_decode_and_do_not_mix_with_the_published_ones() -> None:
    space = ResNetSpace(code="compact")
    archs = space.sample(200, draws())
    assert space.decode(space.encode(archs)) == archs
    assert space.name == SPACE.name
    assert space.code_name != SPACE.code_name
    spoilt = space.encode(archs[:1])
    spoilt[0, -1] += 0.5
    with pytest.raises(ValueError, match="code is not of this space"):
        space.decode(spoilt)
