from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.store.weights import load_weights, save_weights
from metad2a.database import MetaDatabase, MetaTask, load_database, save_database

MakeDatabase = Callable[..., MetaDatabase]


def test_a_database_comes_back_as_it_was_written_and_equal_ones_are_equal_bytes(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    database = make_database()
    save_database(tmp_path / "a.safetensors", database)
    save_database(tmp_path / "b.safetensors", make_database())
    found = load_database(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (found.tasks, found.space_name, found.meta) == (database.tasks, database.space_name, database.meta)
    for name in ("task_index", "codes", "accuracy", "is_valid"):
        assert torch.equal(getattr(found, name), getattr(database, name)), name
        assert getattr(found, name).dtype == getattr(database, name).dtype, name


@pytest.mark.parametrize("valid", [False, True])
@pytest.mark.parametrize("num", [1, 2, 100])
def test_the_best_rows_are_those_of_a_loop_over_tasks(num: int, valid: bool, make_database: MakeDatabase) -> None:
    database = make_database()
    order = torch.randperm(database.num_rows, generator=torch.Generator().manual_seed(1))
    names = ("task_index", "codes", "accuracy", "is_valid")
    database = replace(database, **{name: getattr(database, name)[order] for name in names})
    expected = []
    for task in range(len(database.tasks)):
        rows = [row for row in range(database.num_rows) if database.task_index[row] == task]
        rows = [row for row in rows if bool(database.is_valid[row]) == valid]
        expected += sorted(rows, key=lambda row: -float(database.accuracy[row]))[:num]
    assert database.best_rows(num, valid=valid).tolist() == expected


def test_rows_know_their_source(make_database: MakeDatabase) -> None:
    database = make_database(num_cells=2)
    assert database.sources == ("hills", "lakes")
    assert database.source_index().tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]


def test_tasks_are_named_by_their_classes() -> None:
    assert MetaTask("cifar100", (3, 17, 42)).id == "cifar100/3+17+42"
    assert MetaTask("cifar100", (3, 17)).key != MetaTask("cifar100", (3, 18)).key


@pytest.mark.parametrize(
    ("name", "row", "value", "says"),
    [
        ("accuracy", 3, 1.5, "row 3 has an accuracy that is no fraction"),
        ("accuracy", 5, float("nan"), "row 5 has an accuracy that is no fraction"),
        ("codes", 2, 5, "row 2 has a code of no architecture"),
        ("task_index", 1, 6, "row 1 has a task outside 0 to 5"),
    ],
)
def test_values_that_cannot_be_are_refused_by_row(
    name: str, row: int, value: float, says: str, make_database: MakeDatabase
) -> None:
    database = make_database()
    changed = getattr(database, name).clone()
    changed[row] = value
    with pytest.raises(ValueError, match=says):
        replace(database, **{name: changed})


def test_parts_of_different_length_and_tasks_that_repeat_are_refused(make_database: MakeDatabase) -> None:
    database = make_database()
    with pytest.raises(ValueError, match="accuracy has shape"):
        replace(database, accuracy=database.accuracy[:-1])
    with pytest.raises(ValueError, match=r"hills/0\+2 is there twice"):
        replace(database, tasks=(*database.tasks, database.tasks[0]))


def test_what_is_no_database_says_how_to_make_one(tmp_path: Path, make_database: MakeDatabase) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.safetensors: make one with `python -m metad2a collect`"):
        load_database(tmp_path / "nowhere.safetensors")
    save_weights(tmp_path / "other.safetensors", {"weight": torch.ones(2)}, {"kind": "dass-network"})
    with pytest.raises(RuntimeError, match="'dass-network', no database"):
        load_database(tmp_path / "other.safetensors")
    save_database(tmp_path / "whole.safetensors", make_database())
    weights, metadata = load_weights(tmp_path / "whole.safetensors")
    del weights["is_valid"], metadata["format"]
    save_weights(tmp_path / "part.safetensors", weights, metadata)
    with pytest.raises(RuntimeError, match="lacks is_valid: make it anew"):
        load_database(tmp_path / "part.safetensors")
