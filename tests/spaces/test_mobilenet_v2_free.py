"""MobileNetV2 with free widths: published costs and features, its sampler, refusals."""

import pytest
import torch

from common.spaces import Cost, FreeMobileNetV2Space, MobileNetV2Arch
from common.spaces.rising import RisingWidths

SPACE = FreeMobileNetV2Space()
FIRST = "16x4_32x1_64x4_128x4_184x2_320x1_440x2_536x2"


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_first_published_network_costs_what_is_published(counted) -> None:
    arch = SPACE.parse(FIRST)
    published = Cost(num_params=6_268_948, macs=61_864_928)
    assert SPACE.cost(arch, 100, 32) == counted(SPACE, arch, 100, 32) == published


def test_the_last_repetition_is_a_feature_without_effect() -> None:
    one, other = SPACE.parse(FIRST), SPACE.parse(FIRST[:-1] + "4")
    assert SPACE.cost(one, 100, 32) == SPACE.cost(other, 100, 32)
    assert (SPACE.encode([one]) != SPACE.encode([other])).tolist() == [[False] * 15 + [True]]


def test_features_are_channels_and_repetitions_of_each_pair() -> None:
    row = [16, 4, 32, 1, 64, 4, 128, 4, 184, 2, 320, 1, 440, 2, 536, 2]
    assert SPACE.encode([SPACE.parse(FIRST)]).tolist() == [row]
    assert SPACE.encode([]).shape == (0, 16)


def test_samples_grow_with_depth_within_the_published_bounds() -> None:
    archs = SPACE.sample(400, draws(1))
    channels = torch.tensor([arch.channels for arch in archs])
    repetitions = torch.tensor([arch.repetitions for arch in archs])
    assert (channels.diff(dim=1) > 0).all()
    assert not (channels % 8).any()
    assert 16 <= channels[:, 0].min() <= channels[:, 0].max() <= 72
    assert 104 <= channels[:, 6].min() <= channels[:, 6].max() <= 1096
    for column in repetitions.unbind(1):
        assert ((column.bincount(minlength=5)[1:] - 100).abs() < 5 * 10).all()


def test_draws_are_log_uniform_where_growth_is_no_condition() -> None:
    widths = RisingWidths(lows=(1, 2000), highs=(1000, 3000), step=1, is_strict=True)
    rows, depths = widths.draw(3000, 2, 5, draws(2))
    logs = torch.tensor(rows)[:, 0].double().log() / torch.tensor(1000.0).log()
    assert abs(float((logs < 0.5).double().mean()) - 0.5) < 5 * 0.5 / 3000**0.5
    assert torch.tensor(depths).unique().tolist() == [1, 2, 3, 4, 5]


def test_equal_neighbours_are_drawn_only_where_they_are_allowed() -> None:
    rows, _ = RisingWidths(lows=(2, 2), highs=(6, 6), step=2, is_strict=False).draw(500, 1, 1, draws())
    assert {*map(tuple, rows)} == {(a, b) for a in (2, 4, 6) for b in (2, 4, 6) if a <= b}
    rows, _ = RisingWidths(lows=(2, 2), highs=(6, 6), step=2, is_strict=True).draw(500, 1, 1, draws())
    assert {*map(tuple, rows)} == {(2, 4), (2, 6), (4, 6)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("16x1_24x2_32x3_64x4_96x3_160x3_320x1", "7 channels and 7 repetitions; 8 of each are needed"),
        (FIRST.replace("32x1", "36x1"), "multiples of 8 that increase with depth are needed"),
        (FIRST.replace("32x1", "16x1"), "multiples of 8 that increase with depth are needed"),
        (FIRST.replace("536x2", "432x2"), "multiples of 8 that increase with depth are needed"),
        (FIRST.replace("16x4", "8x4"), "first channels 8; 16 to 72 are allowed"),
        ("16x1_24x1_32x1_40x1_48x1_56x1_64x1_72x1", "seventh channels 64; 104 to 1096 are allowed"),
        (FIRST.replace("32x1", "32x5"), "1 to 4 are allowed"),
        (FIRST.replace("536x2", "536x0"), "1 to 4 are allowed"),
    ],
)
def test_architectures_outside_the_space_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"architecture '{text}': .*{reason}"):
        SPACE.parse(text)


def test_nothing_is_done_with_an_architecture_outside_the_space() -> None:
    foreign = MobileNetV2Arch((16,) * 8, (1,) * 8)
    for act in (
        lambda: SPACE.encode([foreign]),
        lambda: SPACE.build(foreign, 2, 32),
        lambda: SPACE.cost(foreign, 2, 32),
    ):
        with pytest.raises(ValueError, match="increase with depth"):
            act()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"first_stride": 0}, "first_stride 0: 1"), ({"tap_indices": (1, 9)}, r"taps \(1, 9\): increasing places")],
)
def test_impossible_spaces_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FreeMobileNetV2Space(**fields)  # type: ignore[arg-type]
