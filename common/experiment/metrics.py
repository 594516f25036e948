"""Metrics of a run: rows of a CSV file and TensorBoard events, the same after a resumed run as after a whole one."""

import csv
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.experiment.files import write_bytes

HEADER = b"step,split,name,value\n"
_FLUSH_SECONDS = 30.0


class Metrics:
    """Appends to `metrics.csv` (long form: step, split, name, value) and to TensorBoard events.

    Values are kept in memory until `flush`, so a tensor on a GPU costs no synchronisation when it is logged. The file
    holds no times and no order but that of the calls: a resumed run's is byte for byte that of an uninterrupted one.

    Args:
        folder: of the run; made by the caller.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.csv"
        self._folder = folder
        self._rows: list[tuple[int, str, str, float | Tensor]] = []
        self._writer: Any = None
        self._is_begun = False
        self._has_rows = False
        self._purge_step: int | None = None
        self._flushed = time.monotonic()

    def rewind(self, step: int) -> None:
        """Drop the rows of an earlier process at or beyond `step`, and a row that it did not finish.

        Raises:
            RuntimeError: this process has logged already, or the file is not one of ours.
        """
        if self._has_rows:
            raise RuntimeError("metrics are logged already: restore the state of a run before logging")
        self._is_begun = True
        if not self.path.exists():
            return
        self._purge_step = step
        lines = self.path.read_bytes().splitlines(keepends=True)
        if lines and lines[0] != HEADER:
            raise RuntimeError(
                f"{self.path} does not begin with {HEADER.decode().strip()!r}: move it away and try again"
            )
        kept = [line for line in lines[1:] if line.endswith(b"\n") and _step_of(line, self.path) < step]
        write_bytes(self.path, b"".join([HEADER, *kept]))

    def log(self, step: int, values: Mapping[str, float | Tensor], split: str) -> None:
        """Take values of a step; see `Run.log`."""
        if not self._is_begun:
            self.rewind(step)
        self._has_rows = True
        for name, value in values.items():
            if not (name + split).isprintable() or any(mark in name + split for mark in ',"'):
                raise ValueError(f"metric {name!r} of split {split!r}: use no commas, quotes or line breaks")
            if isinstance(value, Tensor):
                if value.numel() != 1:
                    raise ValueError(f"metric {name!r} has shape {tuple(value.shape)}: log one number")
                value = value.detach().reshape(()).clone()  # the caller may change its tensor before the flush
            self._rows.append((step, split, name, value if isinstance(value, Tensor) else float(value)))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was logged, to the disk.

        Raises:
            OSError: the disk is full.
        """
        self._flushed = time.monotonic()
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        numbers = _numbers([value for *_, value in rows])
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerows((*row[:3], repr(number)) for row, number in zip(rows, numbers, strict=True))
        is_new = not self.path.exists()
        with self.path.open("ab") as file:
            file.write((HEADER if is_new else b"") + text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
        for (step, split, name, _), number in zip(rows, numbers, strict=True):
            self._events().add_scalar(f"{split}/{name}", number, step)
        self._events().flush()

    def close(self) -> None:
        """Write what was logged and close the events."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _events(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and commands that log nothing need none

            # Events cannot be taken back; TensorBoard hides those of an earlier process from the purge step on.
            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge_step)
        return self._writer


def _step_of(line: bytes, path: Path) -> int:
    try:
        return int(line.split(b",", 1)[0])
    except ValueError as error:
        raise RuntimeError(
            f"{path} has a row that begins with no step: {line!r}; move the file away and try again"
        ) from error


def _numbers(values: list[float | Tensor]) -> list[float]:
    """Values as Python floats, with one transfer from each device."""
    numbers = [0.0 if isinstance(value, Tensor) else value for value in values]
    places: dict[torch.device, list[int]] = {}
    for index, value in enumerate(values):
        if isinstance(value, Tensor):
            places.setdefault(value.device, []).append(index)
    for indices in places.values():
        together = torch.stack([torch.as_tensor(values[index]).to(torch.float64) for index in indices])
        for index, number in zip(indices, together.tolist(), strict=True):
            numbers[index] = number
    return numbers
