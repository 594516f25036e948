"""Files that are either the old one or the new one, never half of it."""

import contextlib
import errno
import io
import json
import os
import secrets
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

TEMPORARY_SUFFIX = ".tmp"
"""Ending of files being written; one that a killed process left behind may be deleted by the folder's owner."""

_LEAVES = (bool, int, float, complex, str, bytes, type(None), torch.Tensor, torch.nn.Parameter, torch.Size, torch.dtype)
_SEQUENCES = (list, tuple, set)
_MAPPINGS = (dict, OrderedDict, Counter)


def write_bytes(path: Path | str, data: bytes | memoryview) -> None:
    """Replace a file in one step: write beside it, flush to the disk, rename.

    Whatever interrupts this (a kill, a full disk, a power cut), the path holds the old content or the new one.

    Args:
        path: where to write; missing parent folders are made.
        data: the whole content.

    Raises:
        OSError: the disk is full or the folder may not be written; the error names `path` and the old file is intact.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    finally:
        with contextlib.suppress(OSError):  # nothing is left after the rename; otherwise make room at once
            temporary.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Replace a UTF-8 text file in one step; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Replace a JSON file in one step; see `write_bytes`.

    Raises:
        ValueError: the value holds something that JSON has no form for (a tensor, a path, a NaN).
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot write {path} as JSON: {error}") from error
    write_text(path, text + "\n")


def read_json(path: Path | str) -> Any:
    """The value in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged; the message names it.
    """
    try:
        return json.loads(_read(Path(path)))
    except ValueError as error:
        raise RuntimeError(
            f"{path} is not valid JSON ({error}): the file is damaged, delete it and try again"
        ) from error


def save_state(path: Path | str, state: Mapping[str, Any]) -> None:
    """Write training state: tensors and plain Python values in nested containers, in one step.

    Args:
        path: the file to replace.
        state: what `load_state` shall return. NumPy scalars, paths and objects are refused here, because a file that
            holds them could not be read back safely.

    Raises:
        ValueError: a value is of a type that may not be in such a file; the message says where it is.
        OSError: as `write_bytes`.
    """
    plain = dict(state)
    _check_plain(plain, "state")
    buffer = io.BytesIO()  # torch hides errors of the disk behind its own when it writes the file itself
    torch.save(plain, buffer)
    write_bytes(path, buffer.getbuffer())


def load_state(path: Path | str) -> dict[str, Any]:
    """Read what `save_state` wrote, with all tensors on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is truncated, altered or of another kind; the message names it.
    """
    data = _read(Path(path))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:  # torch does not verify the checksums that it writes
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checksum of {damaged} is wrong")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
    except MemoryError:
        raise
    except Exception as error:  # the readers raise a dozen types; all mean the same here
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RuntimeError(
            f"{path} is damaged or was not written by this program ({reason}): delete it or write it anew"
        ) from error
    return state


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room, or that the user's share of the disk is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _check_plain(value: Any, where: str) -> None:
    """Refuse, by exact type, what weights-only loading cannot read (subclasses such as numpy.float64 included)."""
    kind = type(value)
    if kind in _LEAVES:
        return
    if kind in _MAPPINGS:
        for key, item in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif kind in _SEQUENCES:
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    else:
        raise ValueError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}: only tensors and plain Python values can be saved"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path)) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; some file systems have no such call and need none."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
