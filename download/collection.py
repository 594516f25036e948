"""The files of a manifest in a folder: brought there, unpacked, recorded, verified."""

import contextlib
import fcntl
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from download import by_hand
from download.content import check_entry, sha256
from download.fetch import Fetcher
from download.ledger import Fingerprint, Ledger, Receipt
from download.manifest import Entry
from download.unpack import unpack

logger = logging.getLogger(__name__)


class Collection:
    """Files below one folder.

    Args:
        folder: where the targets of the manifest lie.
        wanted: the entries that are handled together; their base names decide what `by_hand.find` takes.
        fetcher: fetches what is not there.
    """

    def __init__(self, folder: Path, wanted: Sequence[Entry], fetcher: Fetcher) -> None:
        self.folder = folder
        self._fetcher = fetcher
        self._ledger = Ledger(folder)
        self._file_names = Counter(entry.file_name for entry in wanted)

    def obtain(self, entry: Entry, source: Path | None = None) -> str:
        """Bring a file to its place, unless it is there.

        Args:
            entry: the file.
            source: folder of files fetched by hand; None: fetch it.

        Returns:
            What happened, to be read after the name of the file.

        Raises:
            RuntimeError: it cannot be had, or is not what is recorded; the message says why.
            OSError: the folder cannot be written, or the disk is full.
        """
        receipt = self._ledger.get(entry.target)
        if receipt and self.is_there(entry):
            return "is there already"
        path = self.folder / entry.target
        known = _known(entry, receipt)
        if path.exists():
            file, digest, origin = path, _check(path, known, "delete it and run the command again"), str(path)
        elif source is not None:
            file = by_hand.find(source, entry.target, entry.name, unique=self._file_names[entry.file_name] == 1)
            digest, origin = _check(file, known, "fetch it again"), str(file)
            if not entry.unpack:
                by_hand.copy(file, path)
        else:
            fetched = self._fetcher.fetch(known, path)
            file, digest, origin = path, fetched.sha256, fetched.url
        size = file.stat().st_size
        unpacked = self._unpack(file, entry) if entry.unpack else {}
        self._ledger.put(entry.target, Receipt(file=Fingerprint(size, digest), source=origin, unpacked=unpacked))
        if entry.unpack:
            path.unlink(missing_ok=True)
        return f"{size / 1e6:.3f} MB from {origin}, SHA-256 {digest}"

    def is_there(self, entry: Entry) -> bool:
        """Whether the file is in its place, with the recorded size where there is one; nothing is read."""
        receipt = self._ledger.get(entry.target)
        if receipt is None:
            return not entry.unpack and (self.folder / entry.target).exists()
        return all(
            _size(self.folder / path) == expected.size for path, expected in _fingerprints(entry, receipt).items()
        )

    def verify(self, entry: Entry) -> list[tuple[str, str]]:
        """Compare all bytes with what the manifest or the record says.

        Returns:
            Path relative to the folder and verdict, for each file; the verdict is empty for an intact one.
        """
        receipt = self._ledger.get(entry.target)
        expected = {path: file.sha256 for path, file in _fingerprints(entry, receipt).items()} if receipt else {}
        if entry.sha256 is not None and not entry.unpack:
            expected = {entry.target: entry.sha256}
        if expected:
            return [(path, _verdict(self.folder / path, digest)) for path, digest in expected.items()]
        if (self.folder / entry.target).exists():
            return [(entry.target, "not recorded: run the command without --verify first")]
        return [(entry.target, "missing")]

    def _unpack(self, archive: Path, entry: Entry) -> dict[str, Fingerprint]:
        """Unpack an archive into the folder of its name and record what came out."""
        inner = Path(entry.target).with_name(entry.file_name.split(".")[0])
        logger.info("unpacking %s into %s", archive, self.folder / inner)
        files = unpack(archive, self.folder / inner, max_bytes=entry.unpacked_size)
        paths = {(inner / file).as_posix(): self.folder / inner / file for file in files}
        return {key: Fingerprint(path.stat().st_size, sha256(path)) for key, path in paths.items()}


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep a second process from writing the same partial files.

    Raises:
        RuntimeError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"another download into {folder} is running: wait for it to end") from error
        except OSError as error:  # some network file systems have no such locks
            logger.warning("%s cannot be locked (%s): start no second download into it", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)


def _known(entry: Entry, receipt: Receipt | None) -> Entry:
    """The entry, with the size and hash that were recorded the first time where the manifest has none."""
    if receipt is None or entry.sha256 is not None:
        return entry
    return replace(entry, size=receipt.file.size, sha256=receipt.file.sha256)


def _check(path: Path, entry: Entry, remedy: str) -> str:
    try:
        return check_entry(path, entry)
    except ValueError as error:
        raise RuntimeError(f"{path} is {error}: {remedy}") from error


def _fingerprints(entry: Entry, receipt: Receipt) -> dict[str, Fingerprint]:
    return dict(receipt.unpacked) if entry.unpack else {entry.target: receipt.file}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _verdict(path: Path, expected: str) -> str:
    if not path.is_file():
        return "missing"
    digest = sha256(path)
    return "" if digest == expected else f"damaged: its SHA-256 is {digest} instead of {expected}"
