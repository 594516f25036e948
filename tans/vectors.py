"""Rows of numbers of one width, kept in .npy files that grow and are opened by mapping them into memory."""

import os
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.float32]

SHARD_ROWS = 65_536
"""Rows of a file; 400 MB at the published width of 1,536."""
_HEADER_BYTES = 128


def write_rows(folder: Path, name: str, start: int, rows: Rows) -> None:
    """Put rows at a place of a matrix, which grows as needed.

    The rows are on the disk before a file's header counts them; who calls this keeps others from writing meanwhile.

    Args:
        folder: where the matrix's files `NAME-00000.npy`, ... are.
        name: of the matrix.
        start: place of the first row, at most the number of rows that are there.
        rows: (n, D) float32.

    Raises:
        ValueError: the width is not that of the matrix, or rows before `start` are missing.
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    while done < len(rows):
        shard, offset = divmod(start + done, SHARD_ROWS)
        part = np.ascontiguousarray(rows[done : done + SHARD_ROWS - offset], dtype="<f4")
        _write_part(shard_path(folder, name, shard), offset, part)
        done += len(part)


def shard_path(folder: Path, name: str, shard: int) -> Path:
    """File of a shard."""
    return folder / f"{name}-{shard:05d}.npy"


def read_rows(folder: Path, name: str, num: int) -> list[Rows]:
    """The first rows of a matrix, mapped into memory, file by file.

    Returns:
        Arrays (n, D) that together have `num` rows; their content is read when it is looked at.

    Raises:
        FileNotFoundError: a file is missing.
        RuntimeError: a file is damaged or too short.
    """
    parts, shard = list[Rows](), 0
    while num > 0:
        path = shard_path(folder, name, shard)
        mapped = _open(path)
        wanted = min(num, SHARD_ROWS)
        if len(mapped) < wanted:
            raise RuntimeError(f"{path} is damaged: it has {len(mapped)} rows of {wanted}; restore it or build it anew")
        parts.append(mapped[:wanted])
        num, shard = num - wanted, shard + 1
    return parts


def as_tensor(parts: list[Rows]) -> Tensor:
    """All rows in one tensor; a single mapped part is not copied."""
    tensors = [torch.from_numpy(part) for part in parts]
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def pack(values: NDArray[np.float32] | NDArray[np.float16]) -> bytes:
    """Numbers in as few bytes as zlib makes of them, without loss; the bytes of like weight are put together."""
    width = values.dtype.itemsize
    plain = np.ascontiguousarray(values, dtype=f"<f{width}").tobytes()
    return bytes([width]) + zlib.compress(np.frombuffer(plain, np.uint8).reshape(-1, width).T.tobytes(), 9)


def unpack(content: bytes) -> NDArray[np.float32]:
    """The inverse of `pack`, in single precision.

    Raises:
        ValueError: it is damaged.
    """
    width = content[0] if content else 0
    if width not in (2, 4):
        raise ValueError(f"packed numbers have {width} bytes each; 2 or 4 are known")
    try:
        planes = np.frombuffer(zlib.decompress(content[1:]), np.uint8)
    except zlib.error as error:
        raise ValueError(f"packed numbers are damaged ({error})") from error
    plain = planes.reshape(width, -1).T.tobytes()
    return np.frombuffer(plain, f"<f{width}").astype(np.float32)


def checksums(rows: Rows) -> list[int]:
    """CRC-32 of each row."""
    return [zlib.crc32(row.data) for row in np.ascontiguousarray(rows, dtype="<f4")]


def _open(path: Path) -> Rows:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: restore it, or build its zoo anew")
    try:
        mapped: Rows = np.load(path, mmap_mode="c")  # c: writable in memory only, so that tensors may share it
    except (ValueError, OSError, EOFError) as error:
        raise RuntimeError(f"{path} is damaged ({error}): restore it or build its zoo anew") from error
    if mapped.ndim != 2 or mapped.dtype != np.float32:
        raise RuntimeError(f"{path} is damaged: it holds {mapped.dtype} {mapped.shape}, not rows of float32")
    return mapped


def _header(rows: int, width: int) -> bytes:
    """Header of format 1.0, of a length that does not change with the number of rows."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}".encode()
    body = text.ljust(_HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def _write_part(path: Path, offset: int, rows: Rows) -> None:
    width = rows.shape[1]
    there = _open(path) if path.exists() else np.empty((0, width), np.float32)
    if there.shape[1] != width or offset > len(there):
        raise ValueError(
            f"{path} has {len(there)} rows of {there.shape[1]} numbers; rows of {width} cannot be put at {offset}"
        )
    try:
        with path.open("r+b" if path.exists() else "w+b") as file:
            if len(there) == 0:
                file.write(_header(0, width))
            file.seek(_HEADER_BYTES + offset * 4 * width)
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            file.write(_header(max(len(there), offset + len(rows)), width))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
