from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.experiment.config import StepConfig, UsageError
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_table import AccuracyTable, Column
from common.store.records import RecordStore
from metad2a.database import MetaTask
from metad2a.labels import CellTraining, check_table_knows, find_table, table_labels, train_labels

SPACE = NasBench201Space(channels=4, cells_per_stage=1)
RECIPE = Recipe(
    loss="ce", epochs=1, epoch_images=64, batch_size=32, learning_rate=0.1, padding=0, flip="no", validate_every=1
)
TASKS = [MetaTask("digits", (0, 1)), MetaTask("digits", (2, 5, 7))]
CELLS = {task: SPACE.sample(2, torch.Generator().manual_seed(place)) for place, task in enumerate(TASKS)}


@pytest.fixture(scope="module")
def table() -> AccuracyTable:
    """A table whose accuracies tell the row and the dataset."""
    cells = tuple(NasBench201Space().all())
    rows = torch.arange(len(cells)) / 100_000
    columns = {
        Column(name, "test", 200): rows + 0.1 * place for place, name in enumerate(("cifar100", "imagenet16_120"))
    }
    return AccuracyTable(cells, columns)


def test_labels_of_the_table_are_those_of_the_whole_set(table: AccuracyTable) -> None:
    tasks = [MetaTask("cifar100", (0, 4)), MetaTask("tiny_imagenet", (1, 2)), MetaTask("cifar100", (2, 3))]
    cells = {task: [table.cells[3 + place], table.cells[900]] for place, task in enumerate(tasks)}
    expected = [0.00003, 0.009, 0.10004, 0.109, 0.00005, 0.009]
    assert table_labels(table, tasks, cells).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_set_that_the_table_does_not_know_is_named() -> None:
    check_table_knows(["cifar10", "cifar100", "tiny_imagenet"])
    with pytest.raises(
        UsageError, match="no labels for mnist: it has them for cifar10, cifar100, tiny_imagenet; --labels"
    ):
        check_table_knows(["cifar10", "mnist"])


def test_no_table_is_no_error_and_a_damaged_one_is(tmp_path: Path) -> None:
    assert find_table(tmp_path) is None
    (tmp_path / "nasbench201").mkdir()
    (tmp_path / "nasbench201/nasbench201.csv.gz").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"nasbench201.csv.gz is not a NAS-Bench-201 table"):
        find_table(tmp_path)


def labels(folder: Path, lock_step: int) -> torch.Tensor:
    training = CellTraining(space=SPACE, resolution=8, recipe=RECIPE, lock_step=lock_step, seeds=(0, 1))
    return train_labels(TASKS, CELLS, training, Workers(), cfg=StepConfig(gpu="cpu"), folder=folder)


def test_trained_labels_are_kept_as_they_come_and_do_not_depend_on_the_company(tmp_path: Path) -> None:
    alone, together = labels(tmp_path / "alone", 1), labels(tmp_path / "together", 2)
    assert alone.shape == (4,)
    assert torch.equal(alone, together)
    with RecordStore(tmp_path / "alone/records.sqlite") as store:
        records = store.select()
    assert len(records) == 8
    assert {record.task for record in records} == {"digits/0+1", "digits/2+5+7"}
    first = [record for record in records if record.task == "digits/0+1" and record.architecture == text(TASKS[0], 0)]
    assert float(alone[0]) == pytest.approx(sum(record.final_accuracy for record in first) / 2)
    assert not list((tmp_path / "alone/scratch").glob("*.pt"))


def test_labels_that_are_there_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Callable[..., object]
) -> None:
    first = labels(tmp_path, 2)

    def forbidden(*args: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("metad2a.labels.train", forbidden)
    assert torch.equal(labels(tmp_path, 2), first)


def text(task: MetaTask, place: int) -> str:
    cell: Cell = CELLS[task][place]
    return SPACE.format(cell)
