"""The meta-database: round trip, checks of values, and that tables of two origins never mix."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.store.weights import load_weights, save_weights
from dass.database import TaskTable, load_database, load_table, save_table, split_by_role, table_path

MakeTable = Callable[..., TaskTable]
TENSORS = [
    "actmap",
    "arch_enc",
    "best_accuracy",
    "final_accuracy",
    "initial_accuracy",
    "final_loss",
    "num_params",
    "macs",
    "seed_best_accuracy",
    "teacher_actmap",
    "teacher_enc",
    "probe",
]


@pytest.mark.parametrize("half", [True, False])
def test_a_table_comes_back_as_it_was_written(tmp_path: Path, make_table: MakeTable, half: bool) -> None:
    table = make_table()
    save_table(tmp_path / "cub.safetensors", table, half=half)
    loaded = load_table(tmp_path / "cub.safetensors")
    for name in TENSORS:
        exact = not (half and name.endswith("actmap"))
        tolerance = 0 if exact else 2**-11  # half a unit in the last of float16's eleven binary digits
        torch.testing.assert_close(
            getattr(loaded, name), getattr(table, name), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    for name in ("task", "description", "space_name", "resolution", "num_classes", "architectures", "meta"):
        assert getattr(loaded, name) == getattr(table, name), name
    assert (loaded.teacher_best_accuracy, loaded.teacher_final_accuracy) == (0.75, 0.7)
    assert math.isnan(loaded.teacher_initial_accuracy)
    assert loaded.num_seeds == 2


def test_half_precision_maps_take_half_the_space(tmp_path: Path, make_table: MakeTable) -> None:
    table = make_table(num=100)
    for name, half in (("half", True), ("whole", False)):
        save_table(tmp_path / name, table, half=half)
    saved = (tmp_path / "whole").stat().st_size - (tmp_path / "half").stat().st_size
    assert saved == pytest.approx(101 * 16 * 4 * 4 * 2, rel=0.01)


def test_equal_tables_give_equal_bytes(tmp_path: Path, make_table: MakeTable) -> None:
    for name in ("a", "b"):
        save_table(tmp_path / name, make_table())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_table_without_a_known_probe_comes_back_without_one(tmp_path: Path, make_table: MakeTable) -> None:
    save_table(tmp_path / "cub.safetensors", make_table(probe=None))
    assert load_table(tmp_path / "cub.safetensors").probe is None


def with_row(values: torch.Tensor, row: int, value: float) -> torch.Tensor:
    changed = values.clone()
    changed[row] = value
    return changed


@pytest.mark.parametrize("name", ["actmap", "best_accuracy", "final_accuracy", "seed_best_accuracy"])
def test_a_value_that_is_not_finite_is_named_with_task_and_row(make_table: MakeTable, name: str) -> None:
    broken = with_row(getattr(make_table(), name), 4, math.nan)
    with pytest.raises(ValueError, match=f"task cub: {name} is not finite in row 4"):
        make_table(**{name: broken})


def test_accuracies_in_percent_are_refused(make_table: MakeTable) -> None:
    with pytest.raises(ValueError, match=r"best_accuracy is 61.5 in row 2; accuracies are fractions"):
        make_table(best_accuracy=with_row(make_table().best_accuracy, 2, 61.5))
    with pytest.raises(ValueError, match="teacher_best_accuracy is 75"):
        make_table(teacher_best_accuracy=75.0)
    with pytest.raises(ValueError, match="'percent'"):
        make_table(meta={"unit": "percent"})


def test_parts_of_other_lengths_or_shapes_are_refused(make_table: MakeTable) -> None:
    with pytest.raises(ValueError, match="final_loss has 3 rows for 12 students"):
        make_table(final_loss=torch.zeros(3))
    with pytest.raises(ValueError, match=r"teacher's code has shape \(1, 20\)"):
        make_table(teacher_enc=torch.zeros(1, 20))


def test_a_map_too_large_for_half_precision_is_refused(tmp_path: Path, make_table: MakeTable) -> None:
    table = make_table(actmap=with_row(make_table().actmap, 0, 1e5))
    with pytest.raises(ValueError, match="too large for float16"):
        save_table(tmp_path / "cub.safetensors", table)
    save_table(tmp_path / "cub.safetensors", table, half=False)
    assert load_table(tmp_path / "cub.safetensors").actmap[0].max() == 1e5


def test_a_folder_is_read_by_task_id(tmp_path: Path, make_table: MakeTable) -> None:
    for task in ("tiny_imagenet/3", "cub"):
        save_table(table_path(tmp_path, task), make_table(task))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cub.safetensors", "tiny_imagenet-3.safetensors"]
    assert list(load_database(tmp_path)) == ["cub", "tiny_imagenet/3"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 2}, r"map_shape \(16, 2, 2\)"),
        ({"space_name": "other"}, "space_name other instead of toy"),
        ({"probe": None}, "probe unknown"),
        ({"meta": {"pr_type": "random_init"}}, "pr_type random_init"),
        ({"meta": {"origin": "official"}}, "origin official"),
    ],
)
def test_tables_of_another_origin_do_not_mix(
    tmp_path: Path, make_table: MakeTable, changes: dict[str, object], message: str
) -> None:
    save_table(table_path(tmp_path, "a"), make_table("a"))
    save_table(table_path(tmp_path, "b"), make_table("b", **changes))
    with pytest.raises(ValueError, match=f"b.safetensors .*does not fit: .*{message}"):
        load_database(tmp_path)


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dass collect"):
        load_database(tmp_path)


def test_two_files_of_one_task_are_refused(tmp_path: Path, make_table: MakeTable) -> None:
    for name in ("a", "b"):
        save_table(tmp_path / f"{name}.safetensors", make_table("cub"))
    with pytest.raises(ValueError, match=r"b\.safetensors holds task cub"):
        load_database(tmp_path)


def test_a_file_that_lacks_a_part_is_named(tmp_path: Path, make_table: MakeTable) -> None:
    path = tmp_path / "cub.safetensors"
    save_table(path, make_table())
    tensors, metadata = load_weights(path)
    del tensors["macs"]
    save_weights(path, tensors, {"kind": metadata["kind"], "table": metadata["table"]})
    with pytest.raises(RuntimeError, match=r"cub\.safetensors lacks macs"):
        load_table(path)


def test_roles_are_given_by_name(make_table: MakeTable) -> None:
    tables = {task: make_table(task) for task in "abcd"}
    train, valid = split_by_role(tables, (), ("c", "d"))
    assert [t.task for t in train] == ["a", "b"]
    assert [t.task for t in valid] == ["c", "d"]
    train, _ = split_by_role(tables, ("b",), ("d",))
    assert [t.task for t in train] == ["b"]


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [(("e",), ("a",), "no task e"), (("a",), ("a",), "at once"), (("a",), (), "meta-validation has no task")],
)
def test_roles_that_make_no_sense_are_refused(
    make_table: MakeTable, train: tuple[str, ...], valid: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        split_by_role({task: make_table(task) for task in "abcd"}, train, valid)
