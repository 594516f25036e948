"""Unpack an archive that may be hostile: nothing lands outside, no links, no more bytes than agreed."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_LARGEST_RATIO = 200
"""Bytes that one byte of an archive may unpack to where its unpacked size is not known; feature maps stay below 20."""
_CHUNK_BYTES = 1 << 20
_CLUTTER = ("__MACOSX", ".DS_Store")


def unpack(archive: Path, folder: Path, *, max_bytes: int | None = None) -> list[Path]:
    """Unpack a zip or tar archive into a folder, all of it or nothing.

    A top folder of the archive that is named like `folder` is left out, so that the result is the same whether the
    archive holds `preprocessed/a` or just `a`. Files that the folder holds already under other names stay.

    Args:
        archive: a zip file, or a tar file, compressed or not.
        folder: where to; made if it is missing.
        max_bytes: bytes that it may unpack to; None means a fixed multiple of the archive's own size.

    Returns:
        Paths of the files, relative to `folder`, sorted.

    Raises:
        RuntimeError: the archive is damaged, encrypted or too big when unpacked, or holds links or members that would
            land outside of the folder; the message names the archive. Nothing is left of it.
    """
    limit = max_bytes if max_bytes is not None else _LARGEST_RATIO * archive.stat().st_size
    stage = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(stage, ignore_errors=True)  # left behind by a killed process
    stage.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, stage, limit)
        else:
            _unpack_tar(archive, stage, limit)
        return _move(stage, folder)
    except (ValueError, NotImplementedError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise RuntimeError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _unpack_zip(archive: Path, stage: Path, limit: int) -> None:
    left = limit
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            _check_name(member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ValueError(f"{member.filename!r} is a link")
            if member.flag_bits & 1:
                raise ValueError(f"{member.filename!r} is encrypted")
            path = stage / member.filename
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.open(member) as source, path.open("wb") as target:
                for chunk in iter(lambda: source.read(_CHUNK_BYTES), b""):
                    left = _spend(left, len(chunk), limit)  # counted as they come: the stated sizes may lie
                    target.write(chunk)


def _unpack_tar(archive: Path, stage: Path, limit: int) -> None:
    left = limit
    with tarfile.open(archive) as file:
        for member in file:
            _check_name(member.name)
            if not (member.isfile() or member.isdir()):
                raise ValueError(f"{member.name!r} is a link or a device")
            left = _spend(left, member.size, limit)
            file.extract(member, stage, filter="data")


def _check_name(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.split("/")[0]:
        raise ValueError(f"{name!r} would land outside of the folder")


def _spend(left: int, num_bytes: int, limit: int) -> int:
    if num_bytes > left:
        raise ValueError(f"it unpacks to more than {limit} bytes")
    return left - num_bytes


def _move(stage: Path, folder: Path) -> list[Path]:
    """Move the unpacked files to their place."""
    top = stage / folder.name
    outside = [path for path in stage.iterdir() if path != top and path.name not in _CLUTTER]
    root = stage if outside or not top.is_dir() else top
    moved = sorted(_files(root))
    if not moved:
        raise ValueError("it holds no file")
    for path in moved:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).replace(folder / path)
    return moved


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if path.is_file() and not any(part in _CLUTTER for part in relative.parts):
            yield relative
