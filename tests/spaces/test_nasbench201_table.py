"""The accuracy table: its facts where the real one is there, and what damaged or foreign files answer."""

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_classes import is_connected
from common.spaces.nasbench201_table import (
    COLUMNS,
    TABLE_PATH,
    AccuracyTable,
    Column,
    load_table,
    read_table,
    write_table,
)

SPACE = NasBench201Space()
NAMES = ("cifar10", "cifar100", "imagenet16_120")
Lines = list[str]


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The data root that the tests were started with; one without the table fails loudly."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "images"
    return Path(os.environ.get("NAS_DATA", beside))


@pytest.fixture(scope="session")
def real(real_root: Path) -> AccuracyTable:
    return load_table(real_root)


@pytest.fixture(scope="module")
def made() -> AccuracyTable:
    """A table of random accuracies with four decimals, in an order that is not lexicographic."""
    generator = torch.Generator().manual_seed(0)
    cells, order = SPACE.all(), torch.randperm(15_625, generator=generator)
    columns = {
        column: (torch.randint(0, 1_000_001, (15_625,), generator=generator).double() / 1e6).float()
        for column in COLUMNS[:4]
    }
    return AccuracyTable(tuple(cells[index] for index in order.tolist()), columns)


@pytest.fixture(scope="module")
def lines(made: AccuracyTable, tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """Header and rows of the made table."""
    path = tmp_path_factory.mktemp("made") / "table.csv.gz"
    write_table(path, made)
    return gzip.decompress(path.read_bytes()).decode().splitlines()


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Lines], Path]:
    def store(lines: Lines) -> Path:
        path = tmp_path / "table.csv.gz"
        path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode(), compresslevel=1))
        return path

    return store


@pytest.mark.data
def test_the_best_accuracies_are_the_published_ones(real: AccuracyTable) -> None:
    for epochs, best in ((200, (94.3733, 73.5133, 47.3111)), (12, (89.16, 61.18, 38.2667))):
        for dataset, percentage in zip(NAMES, best, strict=True):
            values = real.accuracy(dataset, split="test", epochs=epochs)
            assert values.shape == (15_625,)
            assert values.dtype == torch.float32
            assert float(values.max()) == pytest.approx(percentage / 100, abs=1e-7)


@pytest.mark.data
@pytest.mark.parametrize(
    ("index", "operations", "percentages"),
    [
        (6111, (3, 3, 3, 1, 3, 2), (94.3733, 73.22, 46.7111)),
        (9930, (3, 3, 3, 1, 3, 3), (94.3633, 73.5133, 46.3444)),
        (857, (2, 2, 3, 1, 3, 3), (93.9867, 72.88, 47.3111)),
        (11_472, (3, 0, 3, 1, 0, 1), (93.91, 70.89, 44.2333)),
        (1462, (3,) * 6, (93.76, 71.1067, 41.4444)),
        (1835, (1,) * 6, (54.2967, 15.6067, 16.3222)),
        (1651, (0,) * 6, (10.0, 1.0, 0.8333)),
    ],
)
def test_cells_have_the_published_indices_and_accuracies(
    real: AccuracyTable, index: int, operations: tuple[int, ...], percentages: tuple[float, ...]
) -> None:
    cell = Cell(operations)
    assert real.cells[index] == cell
    assert real.index(cell) == index
    for dataset, percentage in zip(NAMES, percentages, strict=True):
        value = real.lookup([cell], dataset, split="test", epochs=200)
        assert value.tolist() == pytest.approx([percentage / 100], abs=1e-7)


@pytest.mark.data
def test_the_first_cells_are_those_of_the_benchmark(real: AccuracyTable) -> None:
    assert SPACE.format(real.cells[0]) == (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    )
    assert SPACE.format(real.cells[1]) == (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    )


@pytest.mark.data
def test_the_341_disconnected_cells_are_at_chance_on_cifar10(real: AccuracyTable) -> None:
    disconnected = torch.tensor([not is_connected(cell) for cell in real.cells])
    assert int(disconnected.sum()) == 341
    for epochs in (12, 200):
        chance = real.accuracy("cifar10", split="test", epochs=epochs)[disconnected]
        assert chance.mul(1e6).round().unique().tolist() == [100_000]


@pytest.mark.data
def test_the_means_over_the_space_tell_the_fidelities_apart(real: AccuracyTable) -> None:
    for epochs, means in ((200, (87.06, 61.41, 33.59)), (12, (75.98, 40.40, 21.80))):
        for dataset, mean in zip(NAMES, means, strict=True):
            value = float(real.accuracy(dataset, split="test", epochs=epochs).double().mean())
            assert 100 * value == pytest.approx(mean, abs=0.006)


@pytest.mark.data
def test_the_real_table_is_written_as_it_was_read(real: AccuracyTable, real_root: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "again.csv.gz", real)
    places = [real_root / TABLE_PATH, real_root / ".." / TABLE_PATH]
    original = next(place for place in places if place.is_file())
    again, expected = (gzip.decompress(path.read_bytes()) for path in (tmp_path / "again.csv.gz", original))
    assert again == expected


@pytest.mark.data
def test_a_combination_that_the_real_table_lacks_is_refused_with_those_it_has(real: AccuracyTable) -> None:
    with pytest.raises(
        ValueError, match="no accuracy for cifar10, valid, 200 epochs; it has cifar10, test, 200 epochs;"
    ):
        real.accuracy("cifar10", split="valid", epochs=200)


def test_a_table_comes_back_as_it_was_written(made: AccuracyTable, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name, made)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = read_table(tmp_path / "a")
    assert again.cells == made.cells
    assert list(again.columns) == list(made.columns)
    for column, values in made.columns.items():
        torch.testing.assert_close(again.columns[column], values, rtol=0, atol=1e-7)


def test_lookups_follow_the_cells_whatever_their_order(made: AccuracyTable) -> None:
    cells = SPACE.sample(200, torch.Generator().manual_seed(1))
    all_values = made.accuracy("cifar100", split="test", epochs=200)
    rows = {cell: row for row, cell in enumerate(made.cells)}
    expected = [float(all_values[rows[cell]]) for cell in cells]
    assert made.lookup(cells, "cifar100", "test", 200).tolist() == expected
    assert [made.index(cell) for cell in cells[:5]] == [rows[cell] for cell in cells[:5]]
    assert made.lookup([], "cifar10", "valid", 200).shape == (0,)


def test_who_changes_an_answer_does_not_change_the_table(made: AccuracyTable) -> None:
    made.accuracy("cifar10", split="test", epochs=200).zero_()
    assert made.accuracy("cifar10", split="test", epochs=200).any()


@pytest.mark.parametrize(
    ("dataset", "split", "epochs"),
    [("cifar10", "test", 12), ("cifar10", "val", 200), ("svhn", "test", 200), ("imagenet16_120", "test", 90)],
)
def test_what_is_not_in_the_table_is_refused(made: AccuracyTable, dataset: str, split: str, epochs: int) -> None:
    with pytest.raises(ValueError, match=f"no accuracy for {dataset}, {split}, {epochs} epochs; it has cifar10, test"):
        made.accuracy(dataset, split=split, epochs=epochs)
    with pytest.raises(ValueError, match="no accuracy for"):
        made.lookup(made.cells[:2], dataset, split, epochs)


def test_the_table_is_found_in_the_data_root_and_beside_it(
    store: Callable[[Lines], Path], lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data" / TABLE_PATH
    target.parent.mkdir(parents=True)
    shutil.move(store(lines), target)
    (tmp_path / "data" / "images").mkdir()
    table = load_table(tmp_path / "data")
    assert load_table(tmp_path / "data" / "images") is table  # read once
    monkeypatch.chdir(tmp_path / "data" / "images")
    assert load_table(Path()) is table
    assert load_table(Path("..", "images")) is table


def test_a_table_in_the_data_root_goes_before_one_beside_it(made: AccuracyTable, tmp_path: Path) -> None:
    write_table(tmp_path / TABLE_PATH, made)
    first = {column: made.columns[column] for column in COLUMNS[:1]}
    write_table(tmp_path / "images" / TABLE_PATH, AccuracyTable(made.cells, first))
    assert list(load_table(tmp_path / "images").columns) == list(COLUMNS[:1])


def test_a_changed_file_is_read_again(made: AccuracyTable, tmp_path: Path) -> None:
    write_table(tmp_path / TABLE_PATH, made)
    assert len(load_table(tmp_path).columns) == 4
    write_table(tmp_path / TABLE_PATH, AccuracyTable(made.cells, {COLUMNS[5]: made.columns[COLUMNS[0]]}))
    assert list(load_table(tmp_path).columns) == [COLUMNS[5]]


def test_a_missing_table_says_where_it_was_sought_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m download\.nasbench201.*--data-root") as caught:
        load_table(tmp_path / "images")
    assert str(tmp_path / "images" / "nasbench201" / "nasbench201.csv.gz") in str(caught.value)
    assert "\n" not in str(caught.value)


def without(lines: Lines, row: int) -> Lines:
    return lines[:row] + lines[row + 1 :]


def replaced(lines: Lines, row: int, old: str, new: str) -> Lines:
    assert old in lines[row]
    return [*lines[:row], lines[row].replace(old, new, 1), *lines[row + 1 :]]


def renumbered(lines: Lines) -> Lines:
    return [lines[0], *(f"{row},{line.split(',', 1)[1]}" for row, line in enumerate(lines[1:]))]


def with_entry(lines: Lines, row: int, entry: str) -> Lines:
    return [*lines[:row], lines[row].rsplit(",", 1)[0] + "," + entry, *lines[row + 1 :]]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda t: [], "its header is ''; index,arch and then some of cifar10_test_200,", id="empty"),
        pytest.param(lambda t: t[1:], "its header is '0,", id="no header"),
        pytest.param(lambda t: replaced(t, 0, "arch", "cell"), "its header is 'index,cell,", id="wrong name"),
        pytest.param(lambda t: replaced(t, 0, "_200", ""), "its header is .*cifar10_test,", id="no epochs"),
        pytest.param(lambda t: replaced(t, 0, "10_val", "10_test"), "its header is", id="a column twice"),
        pytest.param(lambda t: [line.rsplit(",", 4)[0] for line in t], "'index,arch'; index,arch and", id="no columns"),
        pytest.param(lambda t: t[:1], "0 cells are there instead of 15625", id="no rows"),
        pytest.param(lambda t: t[:-1], "15624 cells are there instead of 15625", id="last row missing"),
        pytest.param(
            lambda t: without(t, 18), "row 17 has the index '18'; all from 0 to 15624 are", id="a row missing"
        ),
        pytest.param(lambda t: t[:9] + t[8:], "row 8 has the index '7'", id="a row twice"),
        pytest.param(lambda t: renumbered(t[:9] + t[8:]), "stands in rows 7 and 8", id="a cell twice"),
        pytest.param(lambda t: renumbered(t[:-1] + t[8:9]), "stands in rows 7 and 15624", id="a cell for another"),
        pytest.param(lambda t: replaced(t, 5, "~0|+", "~1|+"), "cell .* is malformed: group .* of node 1", id="cell"),
        pytest.param(lambda t: with_entry(t, 4, "high"), "a percentage is not a number .*'high'", id="no number"),
        pytest.param(lambda t: with_entry(t, 4, ""), "a percentage is not a number", id="missing number"),
        pytest.param(lambda t: with_entry(t, 4, "nan"), "_200 of row 3 is nan, which is no percentage", id="nan"),
        pytest.param(lambda t: with_entry(t, 4, "100.1"), "of row 3 is 100.1.*, which is no percentage", id="above"),
        pytest.param(lambda t: with_entry(t, 4, "-1"), "of row 3 is -1.*, which is no percentage", id="below"),
        pytest.param(lambda t: with_entry(t, 4, "1,2"), "row 3 has 7 entries instead of 6", id="long row"),
    ],
)
def test_a_table_that_is_not_whole_is_refused_in_one_line(
    spoil: Callable[[Lines], Lines], reason: str, lines: Lines, store: Callable[[Lines], Path]
) -> None:
    path = store(spoil(lines))
    with pytest.raises(ValueError, match=reason) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path} is not a NAS-Bench-201 table: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["truncated", "altered", "plain", "empty", "binary"])
def test_a_damaged_file_is_refused_in_one_line(kind: str, lines: Lines, store: Callable[[Lines], Path]) -> None:
    path = store(lines)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "truncated": data[:middle],
            "altered": data[:middle] + bytes(64) + data[middle + 64 :],
            "plain": "\n".join(lines).encode(),
            "empty": b"",
            "binary": gzip.compress(bytes(range(256))),
        }[kind]
    )
    with pytest.raises(ValueError, match="is not a NAS-Bench-201 table: ") as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_are_named_in_files_as_dataset_split_and_epochs() -> None:
    assert Column("cifar10", "valid", 12).title == "cifar10_val_12"
    assert len({column.title for column in COLUMNS}) == len(COLUMNS) == 12
