import multiprocessing
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from menagerie import DATASETS, PER_DATASET, SETTINGS, add_dataset, make_zoo, networks_of, random_supernet

from common.experiment.config import UsageError
from tans.networks import functional_embedding, load_network, norms_of, put_norms, with_fresh_head
from tans.vectors import shard_path
from tans.zoo import FUNCTIONAL, PROBE, VECTORS, create_zoo, open_zoo
from tans.zoo_tables import DatasetRow, NetworkRow, ZooSettings, canonical_key, file_stem
from tans.zoo_verify import verify

ALL = len(DATASETS) * PER_DATASET
ROW = NetworkRow(dataset="animals", num_params=1, macs=1, feature_dim=1, accuracy=0.5, key="a", family="timm:x")


def test_a_zoo_gives_back_what_was_put_in(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        assert zoo.settings == replace(SETTINGS, probe=zoo.settings.probe)
        table, rows = zoo.table(), zoo.networks()
        assert len(table) == len(rows) == len(zoo) == ALL
        assert table.datasets == tuple(sorted(DATASETS))
        assert [table.datasets[place] for place in table.dataset.tolist()] == [row.dataset for row in rows]
        assert table.accuracy.tolist() == pytest.approx([row.accuracy for row in rows])
        assert table.topologies.tolist() == [list(row.topology or ()) for row in rows]
        assert [row.id for row in rows] == [*range(1, 1 + ALL)]
        assert {row.dataset: row.mean.shape for row in zoo.queries("train").values()} == dict.fromkeys(
            DATASETS, torch.Size([512])
        )


def test_a_query_is_the_mean_over_images_not_over_classes(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        row = zoo.queries("train")["animals"]
        images = torch.cat([mean.expand(count, -1) for mean, count in zip(row.class_means, row.counts, strict=True)])
        torch.testing.assert_close(row.mean, images.mean(0), atol=1e-6, rtol=1e-5)


def test_keys_are_distinct_within_a_dataset_and_those_of_the_masked_topologies(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        for name in DATASETS:
            rows = [row for row in zoo.networks() if row.dataset == name]
            assert len({row.key for row in rows}) == len(rows)


def test_settings_of_blocks_not_in_use_change_no_key() -> None:
    topology = torch.full((1, 45), 3)
    topology[0, 40:] = 2
    other = topology.clone()
    other[0, 3] = 7  # the fourth block of a stage of depth 2
    changed = topology.clone()
    changed[0, 1] = 7
    keys = canonical_key(torch.cat([topology, other, changed]))
    assert keys[0] == keys[1] != keys[2]


def test_the_same_network_twice_is_one_row(zoo_folder: Path) -> None:
    with open_zoo(zoo_folder) as zoo:
        before = zoo.functional([1, 2])
        draws = torch.Generator().manual_seed(3)
        rows, vectors, norms = networks_of(zoo, "animals", random_supernet(0), draws)
        assert zoo.add(rows, vectors, norms) == PER_DATASET
        assert zoo.add(rows, 2 * vectors, norms) == 0
        assert zoo.add([rows[0], rows[0]], vectors[:2], norms[:2]) == 0
        assert zoo.add([ROW, ROW], torch.ones(2, 4)) == 1
        assert len(zoo) == ALL + PER_DATASET + 1
        assert torch.equal(zoo.functional([1, 2]), before)
        assert torch.equal(zoo.functional([ALL + 1])[0, :128], vectors[0])
        assert verify(zoo) == []


def _build(folder: str, name: str, seed: int) -> None:
    with create_zoo(Path(folder), SETTINGS) as zoo:
        add_dataset(zoo, name, seed)
        add_dataset(zoo, "both", 99)


def test_two_builders_of_one_zoo_lose_and_double_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    builders = [context.Process(target=_build, args=(str(tmp_path), name, seed)) for seed, name in enumerate("ab")]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    with open_zoo(tmp_path) as zoo:
        counts = [row.dataset for row in zoo.networks()]
        assert {name: counts.count(name) for name in ("a", "b", "both")} == dict.fromkeys(("a", "b", "both"), 4)
        assert verify(zoo, num_recomputed=12) == []


def test_a_writer_that_fails_leaves_the_zoo_as_it_was(zoo_folder: Path) -> None:
    with open_zoo(zoo_folder) as zoo:
        with pytest.raises(RuntimeError, match="NOT NULL"):
            zoo.add([replace(ROW, seed=None)], torch.ones(1, 4))  # type: ignore[arg-type]
        assert len(zoo) == ALL
        assert zoo.add([ROW], torch.full((1, 4), 2.0)) == 1
        assert zoo.functional([ALL + 1])[0, :5].tolist() == [2, 2, 2, 2, 0]
        assert verify(zoo) == []


def test_stored_weights_and_probe_give_the_functional_embedding_again(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        for row in zoo.networks():
            found = functional_embedding(load_network(zoo, row), zoo.probe)
            torch.testing.assert_close(found, zoo.functional([row.id])[0, : len(found)], atol=1e-5, rtol=1e-5)


def test_a_new_head_leaves_the_rest_and_depends_on_its_seed(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        first, second, third = (with_fresh_head(load_network(zoo, zoo.network(1)), 7, seed) for seed in (0, 0, 1))
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            assert first(images).shape == (2, 7)
            torch.testing.assert_close(first(images), second(images))
            assert not torch.equal(first(images), third(images))
            torch.testing.assert_close(first.embed(images), load_network(zoo, zoo.network(1)).embed(images))


def test_statistics_in_half_precision_come_back_rounded_and_large_ones_whole(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        network = load_network(zoo, zoo.network(1))
    whole, half = norms_of(network, is_half=False), norms_of(network, is_half=True)
    assert len(half) < 0.6 * len(whole)
    put_norms(network, half)
    assert norms_of(network, is_half=True) == half
    put_norms(network, whole)
    assert norms_of(network, is_half=False) == whole
    next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)).running_var[0] = 1e6
    assert norms_of(network, is_half=True)[0] == 4
    with open_zoo(pristine) as zoo, pytest.raises(ValueError, match="of another one"):
        put_norms(network, norms_of(load_network(zoo, zoo.network(2)), is_half=True))
    with pytest.raises(ValueError, match="damaged"):
        put_norms(network, half[:-2])


def test_another_zoo_is_not_written_over(zoo_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"width_mult is 0\.1 there and 0\.2 here"):
        create_zoo(zoo_folder, replace(SETTINGS, width_mult=0.2))
    with pytest.raises(UsageError, match="probe is"):
        create_zoo(zoo_folder, SETTINGS, probe_seed=5)
    with open_zoo(zoo_folder) as zoo, pytest.raises(UsageError, match="another dataset as animals"):
        zoo.put_dataset(
            DatasetRow(
                name="animals",
                source="",
                class_names=("a", "b"),
                num_train=1,
                num_evaluation=1,
                resolution=32,
                digest="x",
            )
        )


def test_impossible_rows_are_refused(zoo_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"accuracy of a network on animals is 73\.0"):
        replace(ROW, accuracy=73.0)
    with pytest.raises(ValueError, match="is not 45 settings"):
        replace(ROW, topology=(3, 3))
    with open_zoo(zoo_folder) as zoo:
        with pytest.raises(ValueError, match="--functional-dim 200"):
            zoo.add([ROW], torch.ones(1, 200))
        with pytest.raises(ValueError, match="not finite"):
            zoo.add([ROW], torch.full((1, 4), torch.nan))
        with pytest.raises(UsageError, match="has no network 99"):
            zoo.network(99)
    with pytest.raises(FileNotFoundError, match="there is no zoo in"):
        open_zoo(zoo_folder / "nothing")


def test_file_names_of_datasets_do_not_collide() -> None:
    names = ["a/0-1", "folder:birds", "folder_birds", "a 0-1", "caltech101/0-19"]
    assert len({file_stem(name) for name in names}) == len(names)
    assert all(c.isalnum() or c in "._-" for name in names for c in file_stem(name))


def damage(path: Path, offset: int = -7) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("supernets/letters_0-1.safetensors", r"letters_0-1\.safetensors"),
        (PROBE, r"probe\.safetensors"),
        (f"{VECTORS}/{FUNCTIONAL}-00000.npy", "functional"),
    ],
)
@pytest.mark.parametrize("is_removed", [True, False])
def test_verify_names_a_file_that_is_missing_or_damaged(
    what: str, named: str, is_removed: bool, zoo_folder: Path
) -> None:
    path = zoo_folder / what
    if is_removed:
        path.unlink()
    else:
        damage(path)
    with open_zoo(zoo_folder) as zoo:
        problems = verify(zoo)
    assert len(problems) == 1
    assert re.search(named, problems[0])
    assert "missing" in problems[0] or "no file" in problems[0] or "no weights file" in problems[0] or not is_removed


def test_verify_names_a_network_that_does_not_compute_what_the_zoo_says(zoo_folder: Path) -> None:
    with open_zoo(zoo_folder) as zoo:
        assert verify(zoo, num_recomputed=ALL) == []
        zoo.database.execute("UPDATE norms SET content = (SELECT content FROM norms WHERE model = 2) WHERE model = 1")
        assert any("the statistics of network 1 are damaged" in problem for problem in verify(zoo))
    with make_zoo(zoo_folder.parent / "other", seed=1) as zoo:
        zoo.database.execute("UPDATE supernet SET file = 'supernets/animals.safetensors'")
        assert shard_path(zoo.folder / VECTORS, FUNCTIONAL, 0).is_file()
        assert any("damaged or another file" in problem for problem in verify(zoo))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="resolution is 0"):
        ZooSettings(resolution=0)
    with pytest.raises(ValueError, match="width_mult -1"):
        ZooSettings(width_mult=-1.0)
