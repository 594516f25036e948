"""Accuracies of all NAS-Bench-201 cells, as the benchmark's authors trained them.

A table is a gzipped CSV with a header: `index`, `arch`, and columns such as `cifar10_test_200` with percentages. Row i
is the cell of index i in the benchmark's own files, an order that exists only as data.

Source: Dong and Yang, ICLR 2020 (the accuracies).
"""

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.experiment.files import write_bytes
from common.spaces.nasbench201 import Cell, NasBench201Space, positions

Dataset = Literal["cifar10", "cifar100", "imagenet16_120"]
Split = Literal["test", "valid"]

TABLE_PATH = Path("nasbench201", "nasbench201.csv.gz")
"""Where a table lies in the data root, or beside it."""
_SPACE = NasBench201Space()
_NUM_CELLS = _SPACE.size()


class Column(NamedTuple):
    """What was measured: the training on `dataset` took `epochs`, then the network was evaluated on `split`."""

    dataset: str
    split: str
    epochs: int

    @property
    def title(self) -> str:
        """Its heading in a file, such as `cifar10_val_12`."""
        return f"{self.dataset}_{'val' if self.split == 'valid' else self.split}_{self.epochs}"


COLUMNS = tuple(
    Column(dataset, split, epochs) for epochs in (200, 12) for dataset in get_args(Dataset) for split in get_args(Split)
)
"""All that a table may hold. The 12 epochs are a training of their own, not the beginning of the 200."""


@dataclass(frozen=True, eq=False)
class AccuracyTable:
    """Accuracies of all 15,625 cells. Equal functions have rows of their own: they were trained separately.

    Attributes:
        cells: in the order of the benchmark's indices.
        columns: what was measured -> (15625,) float32 in that order, accuracies in [0, 1].

    Raises:
        ValueError: not every cell is there once, or an accuracy is missing or outside [0, 1].
    """

    cells: tuple[Cell, ...]
    columns: Mapping[Column, Tensor]

    def __post_init__(self) -> None:
        """Check the contents."""
        twice = [cell for cell, times in Counter(self.cells).items() if times > 1]
        if twice:
            rows = [row for row, cell in enumerate(self.cells) if cell == twice[0]]
            raise ValueError(f"cell {_SPACE.format(twice[0])} stands in rows {rows[0]} and {rows[1]}")
        if len(self.cells) != _NUM_CELLS:
            raise ValueError(f"{len(self.cells)} cells are there instead of {_NUM_CELLS}")
        for column, values in self.columns.items():
            if values.shape != (_NUM_CELLS,):
                raise ValueError(f"{column.title} has the shape {tuple(values.shape)} instead of ({_NUM_CELLS},)")
            wrong = (~((values >= 0) & (values <= 1))).nonzero()
            if len(wrong):
                row = int(wrong[0])
                raise ValueError(
                    f"{column.title} of row {row} is {100 * float(values[row]):.6g}, which is no percentage"
                )

    def accuracy(self, dataset: str, *, split: str, epochs: int) -> Tensor:
        """Accuracies of all cells.

        Args:
            dataset: "cifar10", "cifar100" or "imagenet16_120".
            split: "test" or "valid".
            epochs: of the training, 12 or 200; only those after 200 compare with published results.

        Returns:
            (15625,) float32 in [0, 1], in the order of the benchmark's indices.

        Raises:
            ValueError: that is not in the table; the message lists what is.
        """
        column = Column(dataset, split, epochs)
        if column not in self.columns:
            known = "; ".join(f"{known.dataset}, {known.split}, {known.epochs} epochs" for known in self.columns)
            raise ValueError(f"the table has no accuracy for {dataset}, {split}, {epochs} epochs; it has {known}")
        return self.columns[column].clone()

    def index(self, cell: Cell) -> int:
        """The benchmark's index of a cell."""
        return int(self._index[positions([cell])])

    def lookup(self, cells: Sequence[Cell], dataset: str, split: str, epochs: int) -> Tensor:
        """(len(cells),) float32 accuracies of some cells; arguments and errors as in `accuracy`."""
        return self.accuracy(dataset, split=split, epochs=epochs)[self._index[positions(cells)]]

    @cached_property
    def _index(self) -> Tensor:
        """(15625,) int64: index of the cell at each position of `NasBench201Space.all`."""
        return positions(self.cells).argsort()


def load_table(data_root: Path) -> AccuracyTable:
    """The table of a data root; a file that has not changed is read once.

    Args:
        data_root: folder with `nasbench201/nasbench201.csv.gz` in it or beside it.

    Raises:
        FileNotFoundError: there is no such file; the message says how to get it.
        ValueError: it is damaged or no table of all cells; the message says where.
    """
    places = [data_root / TABLE_PATH, data_root / ".." / TABLE_PATH]
    for path in places:
        if path.is_file():
            return read_table(path)
    raise FileNotFoundError(
        f"there is no NAS-Bench-201 table, neither {places[0]} nor {places[1]}: put it there, make it with "
        f"`python -m download.nasbench201`, or point NAS_DATA or --data-root to the folder that has it"
    )


def read_table(path: Path) -> AccuracyTable:
    """Read one file; see `load_table`."""
    status = path.stat()
    return _read(path.resolve(), status.st_mtime_ns, status.st_size)


def write_table(path: Path, table: AccuracyTable) -> None:
    """Write a table, accuracies as percentages with 4 decimals at most; equal tables give equal bytes."""
    percentages = [(100 * values.double()).round(decimals=4).tolist() for values in table.columns.values()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "arch", *(column.title for column in table.columns)])
    for index, (cell, *row) in enumerate(zip(table.cells, *percentages, strict=True)):
        writer.writerow([index, _SPACE.format(cell), *row])
    write_bytes(path, gzip.compress(text.getvalue().encode("ascii"), mtime=0))


@lru_cache(maxsize=2)
def _read(path: Path, modified: int, size: int) -> AccuracyTable:
    try:
        header, *rows = [*csv.reader(io.StringIO(_decompress(path)))] or [[]]
        columns = _columns(header)
        _check_rows(rows, len(header))
        percentages = _numbers([row[2:] for row in rows]).reshape(-1, len(columns))
        accuracies = torch.from_numpy(percentages / 100).float()  # (rows, columns)
        cells = tuple(_SPACE.parse(row[1]) for row in rows)
        return AccuracyTable(cells, {column: accuracies[:, place] for place, column in enumerate(columns)})
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not a NAS-Bench-201 table: {error}; bring it again") from error


def _decompress(path: Path) -> str:
    data = path.read_bytes()
    try:
        return gzip.decompress(data).decode("utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"the file is damaged ({error})") from error


def _columns(header: Sequence[str]) -> list[Column]:
    """Columns after the first two."""
    known = {column.title: column for column in COLUMNS}
    titles = header[2:]
    if list(header[:2]) != ["index", "arch"] or not titles or len({*titles}) < len(titles) or {*titles} - {*known}:
        found = ",".join(header)
        raise ValueError(f"its header is {found[:200]!r}; index,arch and then some of {','.join(known)} are needed")
    return [known[title] for title in titles]


def _check_rows(rows: Sequence[Sequence[str]], width: int) -> None:
    for place, row in enumerate(rows):
        if len(row) != width:
            raise ValueError(f"row {place} has {len(row)} entries instead of {width}")
        if row[0] != str(place):
            raise ValueError(
                f"row {place} has the index {row[0]!r}; all from 0 to {_NUM_CELLS - 1} are needed in order"
            )


def _numbers(rows: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"a percentage is not a number ({error})") from error
