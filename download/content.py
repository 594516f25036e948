"""Does a file hold what its name says: first bytes, completeness, size and hash."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pooch

from download.manifest import Entry

_ZIP = (b"PK\x03\x04",)
_MAGIC: tuple[tuple[tuple[str, ...], tuple[bytes, ...]], ...] = (
    ((".pth.tar", ".pth", ".pt"), (*_ZIP, b"\x80")),  # the second one: PyTorch before 1.6
    ((".npy",), (b"\x93NUMPY",)),
    ((".npz", ".zip"), _ZIP),
    ((".tar.gz", ".tgz", ".gz"), (b"\x1f\x8b",)),
)
HEAD_BYTES = 512
"""Length of the beginning that `check_head` likes to see."""


def check_head(name: str, head: bytes) -> None:
    """Refuse a beginning that cannot be that of the file, such as the page that a dead link leads to.

    Args:
        name: name of the file; its ending says what to expect.
        head: the first bytes; where they are fewer than `HEAD_BYTES`, only these are compared.

    Raises:
        ValueError: the bytes are those of something else; the message says of what.
    """
    start = head[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise ValueError("an HTML page instead of the file")
    for endings, magics in _MAGIC:
        if name.endswith(endings):
            if not any(head[: len(magic)] == magic[: len(head)] for magic in magics):
                raise ValueError(f"something else than a {endings[0]} file (it begins with {head[:8]!r})")
            return


def check_whole(path: Path, name: str) -> None:
    """Refuse an empty file, a wrong beginning and, where the format shows it, a missing end.

    Args:
        path: the file.
        name: the name that it shall have; its ending says what to expect.

    Raises:
        ValueError: see above; the message says what was found.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise ValueError("an empty file")
    check_head(name, head)
    try:
        if name.endswith(".npy"):
            np.load(path, mmap_mode="r")
        elif head.startswith(_ZIP):
            zipfile.ZipFile(path).close()  # the directory is at the end of the file
        elif name.endswith(".tar"):
            tarfile.open(path).close()
    except (ValueError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ValueError(f"a damaged or truncated file ({error})") from error


def check_entry(path: Path, entry: Entry) -> str:
    """Refuse a file that is not the one of the manifest, as far as the manifest knows it.

    Returns:
        The SHA-256 of the file.

    Raises:
        ValueError: what the file is instead, to be read after "is" or "sent".
    """
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise ValueError(f"a file of {size} bytes instead of {entry.size}")
    check_whole(path, entry.file_name)
    digest = sha256(path)
    if entry.sha256 is not None and digest != entry.sha256:
        raise ValueError(
            f"a file with the SHA-256 {digest} instead of {entry.sha256} (manifest or downloads.lock.json)"
        )
    return digest


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    return str(pooch.file_hash(str(path), alg="sha256"))
