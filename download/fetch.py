"""Fetch one file over HTTP: resumed, retried, verified, and there whole or not at all."""

import contextlib
import errno
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from common.experiment.files import read_json, write_json
from common.experiment.progress import track
from download.content import check_entry, check_head
from download.manifest import Entry

_CHUNK_BYTES = 1 << 16
_BUSY = (408, 425, 429)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is given."""

    attempts: int = 5
    """Attempts in a row that bring the file no further, before an address is given up."""
    backoff: float = 1.0
    """Seconds before the second attempt; doubled before each further one."""
    timeout: float = 30.0
    """Seconds without an answer or a byte that count as a cut."""
    sleep: Callable[[float], None] = time.sleep
    """How to wait."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came."""

    sha256: str
    url: str


class _RefusedError(Exception):
    """This address does not have the file; the text says what it answered."""


class _CutError(Exception):
    """This attempt brought not all of it; a further one may."""


class _SilentError(_CutError):
    """The server could not be reached."""


class Fetcher:
    """Fetches files, and remembers which servers could not be reached."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._silent: set[str] = set()

    def fetch(self, entry: Entry, path: Path) -> Fetched:
        """Fetch a file from the first of its addresses that has it.

        What has come so far is kept beside as `<path>.part`, and a later call goes on from there. The path itself comes
        to be only when all is there and verified.

        Args:
            entry: the file; its size and hash are compared where they are known.
            path: where it goes; parent folders are made.

        Raises:
            RuntimeError: no address has the file; the message has the answer of each.
            OSError: the disk is full (ENOSPC, with a text that says what is kept), or the folder cannot be written.
            KeyboardInterrupt: with a text that says what is kept.
        """
        partial = _Partial(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        answers = []
        try:
            for url in entry.urls:
                try:
                    digest = self._from(url, entry, partial)
                except _RefusedError as answer:
                    answers.append(f"{url} {answer}")
                    continue
                partial.finish(path)
                return Fetched(sha256=digest, url=url)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{partial.size} bytes of {entry.target} are kept in {partial.path}") from None
        raise RuntimeError(f"{entry.target} could not be fetched: {'; '.join(answers)}")

    def _from(self, url: str, entry: Entry, partial: "_Partial") -> str:
        """Fetch from one address, in as many attempts as the patience allows."""
        host = urlsplit(url).netloc
        attempts = 1 if host in self._silent else self.patience.attempts
        failures, furthest = 0, partial.size
        while True:
            try:
                begun_at = _attempt(url, entry, partial, self.patience.timeout)
                return _verify(entry, partial, resumed=begun_at > 0)
            except _CutError as error:
                failures = 1 if partial.size > furthest else failures + 1
                furthest = max(furthest, partial.size)
                if failures >= attempts:
                    if isinstance(error, _SilentError):
                        self._silent.add(host)
                    raise _RefusedError(f"{error} (tried {failures} times)") from error
                seconds = self.patience.backoff * 2 ** (failures - 1)
                logger.warning("%s: %s; trying again in %g s", entry.target, error, seconds)
            self.patience.sleep(seconds)


class _Partial:
    """A file on its way: what has come, and a note of which version of which address it is the beginning of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".part")
        self._note = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, url: str, validator: str | None) -> None:
        """Forget what there is and note what comes now."""
        self.discard()
        write_json(self._note, {"url": url, "validator": validator})

    def resume_headers(self, url: str, entry: Entry) -> dict[str, str]:
        """Ask for the rest, if nothing could join the halves of two different files; empty: ask for all."""
        if not self.size or not self._note.exists():
            return {}
        note = self._read_note()
        byte_range = {"Range": f"bytes={self.size}-"}
        if note.get("url") == url and note.get("validator"):
            return byte_range | {"If-Range": str(note["validator"])}
        return byte_range if entry.sha256 else {}

    def _read_note(self) -> dict[str, Any]:
        try:
            note = read_json(self._note)
        except RuntimeError:  # damaged; the price is to fetch the beginning again
            return {}
        return note if isinstance(note, dict) else {}

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        self.path.replace(path)
        self._note.unlink(missing_ok=True)


def _attempt(url: str, entry: Entry, partial: _Partial, timeout: float) -> int:
    """One request; all of the file is there afterwards.

    Returns:
        How many bytes were there before.
    """
    wanted = partial.resume_headers(url, entry)
    offset = partial.size if wanted else 0
    headers = {"Accept-Encoding": "identity"} | wanted  # ranges count the bytes of the file, not of its compressed form
    with _errors_named(), requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code == 416 and wanted:
            if response.headers.get("Content-Range", "") == f"bytes */{offset}":
                return offset  # all of it had come already
            partial.discard()
            raise _CutError("could not go on from the partial file")
        _check_answer(response, entry)
        if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            partial.discard()
            raise _CutError(f"sent the range {response.headers.get('Content-Range')!r} instead of the one asked for")
        if offset and response.status_code != 206:
            logger.info("%s: the server sends the whole file again", entry.target)
            offset = 0
        total = _total(response, offset)
        if entry.size is not None and total not in (None, entry.size):
            raise _RefusedError(f"offers a file of {total} bytes instead of {entry.size}")
        chunks = response.raw.stream(_CHUNK_BYTES, decode_content=False)
        if not offset:
            first = next(chunks, b"")
            _check_first(entry, first)
            partial.begin(url, _validator(response))
            chunks = itertools.chain([first], chunks)
        _receive(chunks, entry, partial, total)
    return offset


def _check_answer(response: requests.Response, entry: Entry) -> None:
    status = f"answered {response.status_code} {response.reason}".rstrip()
    if response.status_code >= 500 or response.status_code in _BUSY:
        raise _CutError(status)
    if response.status_code not in (200, 206):
        raise _RefusedError(status)
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _RefusedError("sent an HTML page instead of the file (a dead link)")


def _receive(chunks: Iterator[bytes], entry: Entry, partial: _Partial, total: int | None) -> None:
    """Append the body to the partial file."""
    size = partial.size
    bar = track(total=total, description=entry.target)
    bar.unit, bar.unit_scale, bar.initial, bar.n = "B", True, size, size
    try:
        with contextlib.closing(bar), partial.path.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)
                size += len(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kept = f"{partial.size} bytes of {entry.target} are kept in {partial.path}"
        raise OSError(errno.ENOSPC, kept) from error
    if total is not None and size != total:
        raise _CutError(f"ended after {size} of {total} bytes")


def _check_first(entry: Entry, chunk: bytes) -> None:
    """Give up at once on what is not the file, instead of fetching all of it."""
    try:
        check_head(entry.file_name, chunk)
    except ValueError as error:
        raise _RefusedError(f"sent {error}") from error


def _verify(entry: Entry, partial: _Partial, *, resumed: bool) -> str:
    try:
        return check_entry(partial.path, entry)
    except ValueError as error:
        partial.discard()
        if resumed:  # the fault may be in what was there before
            raise _CutError(f"gave, joined with the partial file, {error}") from error
        raise _RefusedError(f"sent {error}") from error


def _validator(response: requests.Response) -> str | None:
    """What names this version of the file in `If-Range`; weak tags may not be used there (RFC 9110, section 13.1.5)."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _total(response: requests.Response, offset: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return offset + int(length) if length.isdecimal() else None


@contextlib.contextmanager
def _errors_named() -> Iterator[Any]:
    """Turn the errors of the HTTP libraries into ours."""
    try:
        yield
    except requests.Timeout as error:
        raise _SilentError("did not answer in time") from error
    except requests.ConnectionError as error:
        reason = getattr(error.args[0], "reason", error) if error.args else error
        raise _SilentError(f"could not be reached ({type(reason).__name__})") from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError) as error:
        raise _CutError("cut the connection") from error
    except requests.RequestException as error:
        raise _RefusedError(f"cannot be asked: {error}") from error
