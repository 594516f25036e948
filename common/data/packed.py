"""Packed image sets: one .npz of encoded images, offsets, labels, parts and class names."""

import io
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.data.source import Indices, Source

KEYS = ("data", "offsets", "labels", "split", "class_names")


class Pack(NamedTuple):
    """Contents of one packed file."""

    data: NDArray[np.uint8]
    """Encoded images, one after the other."""
    offsets: Indices
    """(N + 1,): image i is data[offsets[i]:offsets[i + 1]]."""
    labels: Indices
    split: NDArray[np.uint8]
    class_names: tuple[str, ...]


def open_packed(paths: list[Path], *, name: str, id: str, description: str, flip: bool) -> Source:
    """One set from one packed file, or from several parts with the same classes.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, has other keys or other classes than the first part.
    """
    packs = [read_pack(path) for path in paths]
    for path, pack in zip(paths, packs, strict=True):
        if pack.class_names != packs[0].class_names:
            raise ValueError(f"{path}: its classes differ from those of {paths[0].name}, so the two are not one set")
    ends = np.cumsum([len(pack.labels) for pack in packs])

    def find(row: int) -> tuple[int, int]:
        part = int(np.searchsorted(ends, row, side="right"))
        return part, row - int(ends[part]) + len(packs[part].labels)

    def read(row: int) -> Image.Image:
        part, index = find(row)
        pack = packs[part]
        return Image.open(io.BytesIO(pack.data[pack.offsets[index] : pack.offsets[index + 1]].tobytes()))

    def locate(row: int) -> str:
        part, index = find(row)
        return f"{paths[part].name}, image {index}"

    return Source(
        name=name,
        id=id,
        origin=paths[0],
        read=read,
        locate=locate,
        labels=np.concatenate([pack.labels for pack in packs]),
        split=np.concatenate([pack.split for pack in packs]),
        class_names=packs[0].class_names,
        description=description,
        flip=flip,
    )


def read_pack(path: Path) -> Pack:
    """Contents of a packed file, checked; a file that has not changed is read once.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is damaged or not a packed set.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no packed image set at {path}")
    status = path.stat()
    return _read(path.resolve(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, modified: int, size: int) -> Pack:
    arrays = _load(path)
    try:
        pack = Pack(
            data=arrays["data"].astype(np.uint8, casting="safe", copy=False),
            offsets=arrays["offsets"].astype(np.int64, casting="same_kind", copy=False),
            labels=arrays["labels"].astype(np.int64, casting="same_kind", copy=False),
            split=arrays["split"].astype(np.uint8, casting="safe", copy=False),
            class_names=tuple(str(item) for item in arrays["class_names"].tolist()),
        )
    except TypeError as error:
        raise ValueError(f"{path} is not a packed image set: {error}") from error
    wrong = _inconsistency(pack)
    if wrong:
        raise ValueError(f"{path} is not a valid packed image set: {wrong}")
    return pack


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            missing = [key for key in KEYS if key not in archive]
            if missing:
                found = ", ".join(sorted(archive)[:8]) or "nothing"
                raise ValueError(f"it lacks {', '.join(missing)} (it holds {found})")
            return {key: archive[key] for key in KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a packed image set: {error}") from error


def _inconsistency(pack: Pack) -> str | None:
    """What is wrong with the arrays, or None."""
    num = len(pack.labels)
    if any(array.ndim != 1 for array in pack[:4]):
        return "data, offsets, labels and split must have one axis"
    if num == 0:
        return "it holds no image"
    if len(pack.offsets) != num + 1 or len(pack.split) != num:
        return (
            f"{num} labels, {len(pack.split)} split values and {len(pack.offsets)} offsets (expected one more) disagree"
        )
    if pack.offsets[0] < 0 or (np.diff(pack.offsets) < 0).any() or pack.offsets[-1] > len(pack.data):
        return "the offsets do not lie in order within the data"
    if pack.labels.min() < 0 or pack.labels.max() >= len(pack.class_names):
        return f"labels must lie in 0..{len(pack.class_names) - 1}"
    if pack.split.max() > 2:
        return "split values must be 0 (train), 1 (valid) or 2 (test)"
    return None
