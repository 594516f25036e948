"""Spaces of a fixed list: the published pools, scaled features, membership, files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.spaces import (
    Cost,
    FreeMobileNetV2Space,
    Pool,
    ShuffleNetV2Space,
    SimpleCnnSpace,
    read_mobilenet_pool,
    read_shufflenet_pool,
)

TABLE = """space,arch,channels,repetitions
mobilenet,0,16 32 64 128 184 320 440 536,4 1 4 4 2 1 2 2
mobilenet,1,16 40 56 96 192 208 280 352,2 1 1 4 2 3 1 2
mobilenet,2,32 40 56 72 88 112 144 168,2 4 4 1 4 4 2 4
shufflenet,0,98 158 510 524,6 3 5
shufflenet,1,62 184 404 762,5 10 4
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "archs.csv"
    file.write_text(TABLE)
    return file


def test_members_are_read_in_the_order_of_their_numbers(table: Path) -> None:
    mobilenets, shufflenets = read_mobilenet_pool(table), read_shufflenet_pool(table)
    assert [mobilenets.format(arch) for arch in mobilenets.members] == [
        "16x4_32x1_64x4_128x4_184x2_320x1_440x2_536x2",
        "16x2_40x1_56x1_96x4_192x2_208x3_280x1_352x2",
        "32x2_40x4_56x4_72x1_88x4_112x4_144x2_168x4",
    ]
    assert [shufflenets.format(arch) for arch in shufflenets.members] == [
        "98x6_158x3_510x5_524",
        "62x5_184x10_404x4_762",
    ]
    assert mobilenets.cost(mobilenets.arch(0), 100, 32) == Cost(num_params=6_268_948, macs=61_864_928)
    assert shufflenets.cost(shufflenets.arch(0), 100, 32) == Cost(num_params=1_246_180, macs=35_165_888)
    assert read_mobilenet_pool(table, FreeMobileNetV2Space(first_stride=2)).name != mobilenets.name


@pytest.mark.data
def test_the_published_pools_are_of_their_families(data_root: Path) -> None:
    file = data_root.parent / "mfkd" / "mfkd_archs.csv"
    mobilenets, shufflenets = read_mobilenet_pool(file), read_shufflenet_pool(file)
    assert (mobilenets.size(), shufflenets.size()) == (100, 300)
    assert mobilenets.features.shape == (100, 16)
    assert shufflenets.features.shape == (300, 7)
    assert {arch.channels[0] for arch in mobilenets.members} <= set(range(16, 73, 8))


def test_features_are_scaled_over_the_pool_and_a_constant_column_is_zero() -> None:
    family = ShuffleNetV2Space()
    texts = ["24x1_38x2_182x3_232", "24x4_40x2_200x1_300", "24x9_38x2_190x1_500"]
    pool = Pool(family=family, members=tuple(map(family.parse, texts)))
    raw = family.encode(pool.members).numpy()
    deviation = raw.std(0)
    expected = (raw - raw.mean(0)) / np.where(deviation == 0, 1, deviation)
    np.testing.assert_allclose(pool.features.numpy(), expected, rtol=0, atol=1e-14)
    assert not pool.features[:, [0, 5]].any()  # 24 channels, 2 blocks
    assert torch.equal(pool.encode(pool.members[::-1]), pool.features.flip(0))
    assert pool.encode([]).shape == (0, 7)


def test_a_pool_of_all_of_a_small_grid_has_the_features_of_the_grid() -> None:
    grid = SimpleCnnSpace.from_options(
        {f"conv_layer_{i}": {"bn": False, "filters": [8, 16], "kernel_size": 1, "relu": True} for i in range(3)}
        | {"fully_connect": {"output_unit": [16, 20, 24]}}
    )
    members = tuple(grid.arch(index) for index in range(grid.size()))
    pool = Pool(family=grid, members=members)
    torch.testing.assert_close(pool.features, grid.encode(members))
    assert [pool.index(arch) for arch in members] == list(range(24))


def test_members_are_drawn_uniformly(table: Path) -> None:
    pool = read_mobilenet_pool(table)
    archs = pool.sample(600, torch.Generator().manual_seed(0))
    counts = torch.tensor([pool.index(arch) for arch in archs]).bincount(minlength=3)
    assert (counts - 200).abs().max() < 5 * 200**0.5


def test_architectures_that_are_no_members_are_refused(table: Path) -> None:
    pool = read_shufflenet_pool(table)
    text = "116x3_232x7_464x3_1024"
    foreign = pool.family.parse(text)
    for act in (
        lambda: pool.parse(text),
        lambda: pool.index(foreign),
        lambda: pool.encode([foreign]),
        lambda: pool.build(foreign, 3, 32),
        lambda: pool.cost(foreign, 3, 32),
    ):
        with pytest.raises(ValueError, match=f"architecture '{text}' is not one of the 2 of shufflenet_v2-pool2-"):
            act()
    with pytest.raises(ValueError, match="is malformed"):
        pool.parse("116")
    with pytest.raises(ValueError, match="index 2: 0 to 1 are architectures of shufflenet_v2-pool2-"):
        pool.arch(2)


def test_impossible_pools_are_refused() -> None:
    family = ShuffleNetV2Space()
    with pytest.raises(ValueError, match="without architectures"):
        Pool(family=family, members=())
    with pytest.raises(ValueError, match="has an architecture twice"):
        Pool(family=family, members=(family.teacher, family.teacher))
    broken = family.teacher.__class__((3, 2, 1, 0), (1, 1, 1))
    with pytest.raises(ValueError, match="never fall with depth"):
        Pool(family=family, members=(broken,))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", r"has the columns \['a', 'b'\]"),
        ("", "has the columns None"),
        (TABLE.replace("mobilenet,1", "mobilenet,2"), "row 1 of mobilenet has the number 2; all are needed, in order"),
        (TABLE.replace("16 40 56", "16 forty 56"), "row 1 of mobilenet has no lists of integers"),
        (TABLE.replace(",2 4 4 1 4 4 2 4", ""), "row 2 of mobilenet has no lists of integers"),
        (
            TABLE.replace("16 40 56 96", "16 40 56"),
            r"architecture '16x2_40x1.*': 7 channels and 8 repetitions; 8 of each are needed",
        ),
        (TABLE.replace("mobilenet", "other"), "without architectures"),
    ],
)
def test_other_tables_are_refused_in_one_clear_line(table: Path, text: str, reason: str) -> None:
    table.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_mobilenet_pool(table)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv does not exist: give the table"):
        read_shufflenet_pool(tmp_path / "none.csv")
