"""The record store: keys are unique, several processes write at once, damage is noticed."""

import dataclasses
import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from common.store.records import Record, RecordStore

RECORD = Record(
    task="tiny_imagenet/3",
    space="resnet",
    architecture="18-32_36",
    recipe="0123456789ab",
    seed=0,
    best_accuracy=0.75,
    final_accuracy=0.7,
    initial_accuracy=0.05,
    final_loss=1.25,
    num_params=11_000_000,
    macs=2**40,
    seconds=12.5,
    weights="weights/1.safetensors",
)
KEY = {name: getattr(RECORD, name) for name in ("task", "space", "architecture", "recipe", "seed")}


def add_many(path: Path, first: int, last: int) -> None:
    with RecordStore(path) as store:
        for seed in range(first, last):
            store.add(dataclasses.replace(RECORD, seed=seed))


def test_a_record_comes_back_exactly(tmp_path: Path) -> None:
    bare = dataclasses.replace(RECORD, seed=1, weights=None, final_loss=float("inf"), seconds=1 / 3)
    with RecordStore(tmp_path / "new" / "records.sqlite") as store:
        assert store.add(RECORD)
        assert store.add(bare)
    with RecordStore(tmp_path / "new" / "records.sqlite") as store:
        assert store.get(**KEY) == RECORD
        assert store.get(**{**KEY, "seed": 1}) == bare
        assert len(store) == 2


def test_a_second_record_of_the_same_key_changes_nothing(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "records.sqlite") as store:
        assert store.add(RECORD)
        assert not store.add(dataclasses.replace(RECORD, best_accuracy=0.9))
        assert store.select() == [RECORD]


@pytest.mark.parametrize("field", ["task", "space", "architecture", "recipe", "seed"])
def test_a_difference_in_any_part_of_the_key_makes_another_record(tmp_path: Path, field: str) -> None:
    changed: dict[str, Any] = {field: 5 if field == "seed" else "other"}
    other = dataclasses.replace(RECORD, **changed)
    with RecordStore(tmp_path / "records.sqlite") as store:
        store.add(RECORD)
        assert not store.has(**{**KEY, field: getattr(other, field)})
        store.add(other)
        assert len(store) == 2
        assert store.select(**{field: getattr(other, field)}) == [other]


def test_selection_matches_everything_given_and_is_ordered_by_key(tmp_path: Path) -> None:
    records = [dataclasses.replace(RECORD, task=task, seed=seed) for task in "ba" for seed in (2, 1)]
    with RecordStore(tmp_path / "records.sqlite") as store:
        for record in records:
            store.add(record)
        assert [(r.task, r.seed) for r in store.select()] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
        assert [(r.task, r.seed) for r in store.select(task="b", seed=1)] == [("b", 1)]
        assert store.select(task="c") == []


def test_processes_that_start_together_on_a_new_file_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    context = multiprocessing.get_context("spawn")
    ranges = ((0, 60), (40, 100))  # 20 keys are written by both
    workers = [context.Process(target=add_many, args=(path, *bounds)) for bounds in ranges]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    with RecordStore(path) as store:
        assert [record.seed for record in store.select()] == list(range(100))


def test_two_stores_in_one_process_see_each_others_records(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "records.sqlite") as one, RecordStore(tmp_path / "records.sqlite") as two:
        one.add(RECORD)
        assert two.get(**KEY) == RECORD


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"hello, this is text and not a database at all" * 50)
    with pytest.raises(RuntimeError, match=r"records\.sqlite is damaged"):
        RecordStore(path)


def test_pages_overwritten_in_the_middle_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    add_many(path, 0, 200)
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xaa" * 4096
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match=r"records\.sqlite is damaged"):
        RecordStore(path)


def test_a_database_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(RuntimeError, match="songs"):
        RecordStore(path)


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    RecordStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(RuntimeError, match="version 2"):
        RecordStore(path)


def test_a_path_that_is_a_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").mkdir()
    with pytest.raises(OSError, match=r"records\.sqlite"):
        RecordStore(tmp_path / "records.sqlite")


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with RecordStore(tmp_path / "records.sqlite") as store:
        store.add(RECORD)
        store._database.execute("PRAGMA max_page_count = 1")  # SQLite raises it to what is in use: no page can be added
        with pytest.raises(OSError, match="no space left"):
            store.add(dataclasses.replace(RECORD, seed=1, weights="x" * 100_000))
        assert store.select() == [RECORD]


@pytest.mark.parametrize(
    ("field", "value"),
    [("best_accuracy", 75.0), ("final_accuracy", float("nan")), ("macs", -1), ("final_loss", float("nan"))],
)
def test_values_that_mean_nothing_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(RECORD, **{field: value})
