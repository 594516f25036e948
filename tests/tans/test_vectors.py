from pathlib import Path

import numpy as np
import pytest
import torch

from tans import vectors
from tans.vectors import as_tensor, checksums, pack, read_rows, shard_path, unpack, write_rows


def numbers(num: int, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, width)).astype(np.float32)


@pytest.fixture
def short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SHARD_ROWS", 7)


def test_rows_come_back_whatever_they_were_written_in(tmp_path: Path, short_shards: None) -> None:
    rows, start = numbers(30), 0
    for size in (1, 6, 9, 14):
        write_rows(tmp_path, "m", start, rows[start : start + size])
        start += size
    for num in (1, 7, 8, 30):
        torch.testing.assert_close(as_tensor(read_rows(tmp_path, "m", num)), torch.from_numpy(rows[:num]))
    assert len(list(tmp_path.glob("m-*.npy"))) == 5


def test_files_are_plain_npy(tmp_path: Path) -> None:
    write_rows(tmp_path, "m", 0, numbers(3))
    write_rows(tmp_path, "m", 3, numbers(4, seed=1))
    loaded = np.load(shard_path(tmp_path, "m", 0))
    np.testing.assert_array_equal(loaded, np.concatenate([numbers(3), numbers(4, seed=1)]))


def test_rows_that_nobody_counted_are_written_over(tmp_path: Path) -> None:
    write_rows(tmp_path, "m", 0, numbers(4))
    write_rows(tmp_path, "m", 2, numbers(1, seed=1))  # a writer before this one was killed after its rows
    found = read_rows(tmp_path, "m", 3)[0]
    np.testing.assert_array_equal(found, np.concatenate([numbers(4)[:2], numbers(1, seed=1)]))


def test_looking_at_mapped_rows_changes_no_file(tmp_path: Path) -> None:
    write_rows(tmp_path, "m", 0, numbers(2))
    as_tensor(read_rows(tmp_path, "m", 2)).zero_()
    np.testing.assert_array_equal(read_rows(tmp_path, "m", 2)[0], numbers(2))


def test_rows_of_another_width_or_behind_a_gap_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path, "m", 0, numbers(2))
    with pytest.raises(ValueError, match="rows of 6 cannot"):
        write_rows(tmp_path, "m", 2, numbers(1, 6))
    with pytest.raises(ValueError, match="put at 4"):
        write_rows(tmp_path, "m", 4, numbers(1))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="m-00000"):
        read_rows(tmp_path, "m", 1)
    write_rows(tmp_path, "m", 0, numbers(3))
    path = shard_path(tmp_path, "m", 0)
    with pytest.raises(RuntimeError, match="has 3 rows of 4"):
        read_rows(tmp_path, "m", 4)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RuntimeError, match=r"m-00000\.npy is damaged"):
        read_rows(tmp_path, "m", 3)


def test_a_changed_number_changes_the_checksum_of_its_row_alone() -> None:
    rows = numbers(3)
    before = checksums(rows)
    rows[1, 2] += 1e-3
    assert [a == b for a, b in zip(before, checksums(rows), strict=True)] == [True, False, True]


@pytest.mark.parametrize("kind", ["<f2", "<f4"])
def test_packed_numbers_come_back_exactly(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=1001).astype(kind)
    np.testing.assert_array_equal(unpack(pack(values)), values.astype(np.float32))
    rounded = values.astype("<f2").astype("<f4")
    assert len(pack(rounded)) < 0.7 * 4 * len(rounded)
    with pytest.raises(ValueError, match="damaged"):
        unpack(pack(values)[:-9])
    with pytest.raises(ValueError, match="have 0 bytes"):
        unpack(b"")
