"""Records of evaluations in one SQLite file that several processes may write at once."""

import math
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from common.store.database import Database

_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """One evaluation: what was trained how, and what came of it.

    Raises:
        ValueError: an accuracy outside [0, 1], a negative count or time, or a number that is not one.
    """

    task: str
    """Id of the task, for example "tiny_imagenet/3"."""
    space: str
    """Name of the search space."""
    architecture: str
    """Text form of the architecture in its space."""
    recipe: str
    """Digest of the recipe that it was trained by."""
    seed: int
    best_accuracy: float
    """Highest validation accuracy, in [0, 1]."""
    final_accuracy: float
    """Validation accuracy after the last epoch, in [0, 1]."""
    initial_accuracy: float
    """Validation accuracy before training, in [0, 1]."""
    final_loss: float
    """Validation loss after the last epoch, in nats."""
    num_params: int
    macs: int
    """Multiply-accumulates of one image's forward pass."""
    seconds: float
    """Time that the training took."""
    weights: str | None = None
    """File of the weights, relative to the store's folder; None where they were not kept."""

    def __post_init__(self) -> None:
        for name in ("best_accuracy", "final_accuracy", "initial_accuracy"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} of a record is {getattr(self, name)}: accuracies lie in [0, 1]")
        for name in ("num_params", "macs", "seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} of a record is {getattr(self, name)}: it must be 0 or more")
        if math.isnan(self.final_loss):
            raise ValueError("final_loss of a record is not a number")


_NAMES = tuple(field.name for field in fields(Record))
_KEY = ("task", "space", "architecture", "recipe", "seed")
_SQL_TYPES: dict[object, str] = {str: "TEXT NOT NULL", int: "INTEGER NOT NULL", float: "REAL NOT NULL"}


class RecordStore:
    """All records of one collection, in one file; a context manager.

    A record is on the disk when `add` returns. Processes that write the same file wait for one another.

    Args:
        path: the SQLite file; made, with its folders, when it is not there.

    Raises:
        RuntimeError: the file is damaged, no record store, or of a newer version; the message names it.
        OSError: the file cannot be opened or the disk is full.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        columns = [f"{field.name} {_SQL_TYPES.get(field.type, 'TEXT')}" for field in fields(Record)]
        self._database = Database(
            path,
            kind="record store",
            version=_SCHEMA_VERSION,
            tables=[f"CREATE TABLE records ({', '.join(columns)}, UNIQUE ({', '.join(_KEY)}))"],
            remedy="restore a copy, or delete it and collect again",
        )

    def add(self, record: Record) -> bool:
        """Store a record; one with the same key that is there already stays as it is.

        Returns:
            Whether the record is new.

        Raises:
            OSError: the disk is full.
        """
        marks = ", ".join("?" * len(_NAMES))
        command = f"INSERT INTO records ({', '.join(_NAMES)}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        return self._database.execute(command, astuple(record)).rowcount == 1

    def get(self, *, task: str, space: str, architecture: str, recipe: str, seed: int) -> Record | None:
        """The record with this key, or None."""
        condition = " AND ".join(f"{name} = ?" for name in _KEY)
        row = self._database.execute(
            f"SELECT {', '.join(_NAMES)} FROM records WHERE {condition}", (task, space, architecture, recipe, seed)
        ).fetchone()
        return None if row is None else _record(row)

    def has(self, *, task: str, space: str, architecture: str, recipe: str, seed: int) -> bool:
        """Whether there is a record with this key."""
        return self.get(task=task, space=space, architecture=architecture, recipe=recipe, seed=seed) is not None

    def select(
        self,
        *,
        task: str | None = None,
        space: str | None = None,
        architecture: str | None = None,
        recipe: str | None = None,
        seed: int | None = None,
    ) -> list[Record]:
        """Records that match everything given, ordered by key, whoever wrote them first."""
        wanted = zip(_KEY, (task, space, architecture, recipe, seed), strict=True)
        given = {name: value for name, value in wanted if value is not None}
        condition = " AND ".join(f"{name} = ?" for name in given) or "TRUE"
        command = f"SELECT {', '.join(_NAMES)} FROM records WHERE {condition} ORDER BY {', '.join(_KEY)}"
        return [_record(row) for row in self._database.execute(command, tuple(given.values())).fetchall()]

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM records").fetchone()[0])

    def close(self) -> None:
        """Close the file; the store cannot be used after this."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _record(row: tuple[object, ...]) -> Record:
    return Record(**dict(zip(_NAMES, row, strict=True)))  # type: ignore[arg-type]
