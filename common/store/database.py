"""One SQLite file that several processes may write at once."""

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_PATIENCE_SECONDS = 60.0
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Database:
    """Tables in one file; a context manager.

    What a statement wrote is on the disk when `execute` returns, and all of a `transaction` or nothing. Processes that
    write the same file wait for one another. A file in a folder that cannot be written is opened for reading.

    Args:
        path: the SQLite file; made, with its folders, when it is not there.
        kind: what the file is, for messages: "record store".
        version: of the tables; a file of another one is refused.
        tables: statements that make them in a new file.
        remedy: what to do about a damaged file, for messages.
        is_checked: read the whole file to see that it is not damaged; a large one is better checked on demand.

    Raises:
        RuntimeError: the file is damaged, of another kind, or of another version; the message names it.
        OSError: the file cannot be opened or the disk is full.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kind: str,
        version: int,
        tables: Sequence[str],
        remedy: str,
        is_checked: bool = True,
    ) -> None:
        self.path = Path(path)
        self._kind, self._version, self._remedy = kind, version, remedy
        self.is_readonly = self.path.exists() and not os.access(self.path.parent, os.W_OK)
        try:
            self._connection = self._connect()
        except sqlite3.OperationalError as error:
            raise OSError(f"cannot open the {kind} {self.path}: {error}") from error
        try:
            self._set_up(tables, is_checked)
        except BaseException:
            self._connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        if self.is_readonly:
            address = f"{self.path.absolute().as_uri()}?immutable=1"
            return sqlite3.connect(address, uri=True, isolation_level=None)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(self.path, timeout=_PATIENCE_SECONDS, isolation_level=None)

    def execute(self, command: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement; SQLite's errors become ours, and a busy file is waited for.

        SQLite's own waiting does not cover two processes that switch a new file to WAL, so there is a loop here too.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._connection.execute(command, values)
            except sqlite3.DatabaseError as error:
                if _code(error) not in _BUSY or time.monotonic() > deadline:
                    raise self._explained(error) from error
            time.sleep(0.05)

    def rows(self, command: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            RuntimeError: the file is damaged.
        """
        try:
            return self.execute(command, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside or, where the block raises or the process ends, none; no other process writes then."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def check(self) -> None:
        """Read the whole file.

        Raises:
            RuntimeError: it is damaged.
        """
        found = self.rows("PRAGMA quick_check(1)")[0][0]
        if found != "ok":
            raise RuntimeError(f"{self.path} is damaged ({found}): {self._remedy}")

    def close(self) -> None:
        """Close the file; the object cannot be used after this."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _set_up(self, tables: Sequence[str], is_checked: bool) -> None:
        if not self.is_readonly:
            self.execute("PRAGMA journal_mode = WAL")  # readers and one writer at once
            self.execute("PRAGMA synchronous = FULL")  # a row costs minutes of training: keep it through a power cut
        if is_checked:
            self.check()
        if self.execute("PRAGMA user_version").fetchone()[0] == self._version:
            return
        with self.transaction():
            self._create(tables)

    def _create(self, tables: Sequence[str]) -> None:
        version = self.execute("PRAGMA user_version").fetchone()[0]
        if version == self._version:  # another process was faster
            return
        there = [row[0] for row in self.execute("SELECT name FROM sqlite_master").fetchall()]
        if version != 0 or there:
            what = f"has version {version}" if version else f"holds other tables ({', '.join(there[:3])})"
            raise RuntimeError(
                f"{self.path} {what}, it is no {self._kind} of version {self._version}: use another path"
            )
        for statement in tables:
            self.execute(statement)
        self.execute(f"PRAGMA user_version = {self._version}")

    def _explained(self, error: sqlite3.DatabaseError) -> Exception:
        if _code(error) in _DAMAGED:
            return RuntimeError(f"{self.path} is damaged or no {self._kind} ({error}): {self._remedy}")
        if _code(error) == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, "no space left on the disk", str(self.path))
        return RuntimeError(f"{self._kind} {self.path}: {error}")


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary result code; 0 for errors of the Python layer."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
