"""A file is fetched whole and verified or not at all, and what has come is not fetched twice."""

import errno
import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

import download.fetch
from download.fetch import Fetcher
from download.manifest import Entry


def entry(*urls: str, target: str = "cub/images.npy", **fields: Any) -> Entry:
    return Entry(name="cub", target=target, urls=urls, licence="none", **fields)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_with_its_hash_and_nothing_else_is_left(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/images.npy?dl=1", {"body": array_file})
    fetched = fetcher.fetch(entry(url), tmp_path / "cub" / "images.npy")
    assert (tmp_path / "cub" / "images.npy").read_bytes() == array_file
    assert fetched.sha256 == sha(array_file)
    assert fetched.url == url
    assert names(tmp_path / "cub") == ["images.npy"]


def test_a_cut_connection_is_resumed_by_range_at_the_byte_reached(
    site: Any, fetcher: Fetcher, waits: list[float], array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file, "cut_after": 100_000}, {"body": array_file})
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert (tmp_path / "f.npy").read_bytes() == array_file
    assert site.ranges_asked() == [None, "bytes=100000-"]
    assert site.asked[1][1]["If-Range"] == '"v1"'
    assert waits == [0.5]


def test_a_later_run_goes_on_where_the_first_stopped(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file, "cut_after": 100_000}, {"status": 503})
    with pytest.raises(RuntimeError, match="answered 503 Service Unavailable"):
        fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert names(tmp_path) == ["f.npy.part", "f.npy.part.json"]
    site.put("/f", {"body": array_file})
    site.asked.clear()
    Fetcher(fetcher.patience).fetch(entry(url), tmp_path / "f.npy")
    assert site.ranges_asked() == ["bytes=100000-"]
    assert (tmp_path / "f.npy").read_bytes() == array_file
    assert names(tmp_path) == ["f.npy"]


def test_cuts_that_bring_the_file_further_do_not_use_up_the_attempts(
    site: Any, fetcher: Fetcher, waits: list[float], array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", *[{"body": array_file, "cut_after": 40_000}] * 7, {"body": array_file})
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert (tmp_path / "f.npy").read_bytes() == array_file
    assert len(site.asked) == 8
    assert waits == [0.5] * 7


def test_a_server_that_ignores_ranges_and_cuts_at_the_same_byte_is_given_up(
    site: Any, fetcher: Fetcher, waits: list[float], array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file, "cut_after": 40_000, "ranges": False})
    with pytest.raises(RuntimeError, match="cut the connection"):
        fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert len(site.asked) == 3
    assert waits == [0.5, 1.0]


def test_a_server_that_ignores_ranges_sends_all_again_and_no_byte_is_doubled(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file, "cut_after": 100_000}, {"body": array_file, "ranges": False})
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert site.ranges_asked() == [None, "bytes=100000-"]
    assert (tmp_path / "f.npy").read_bytes() == array_file


def test_halves_of_two_versions_are_never_joined(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    old = array_file[:-1] + b"\x00"
    new = array_file[:200] + b"\x01" * 10 + array_file[210:]
    url = site.put("/f", {"body": old, "cut_after": 100_000}, {"body": new, "etag": '"v2"'})
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert (tmp_path / "f.npy").read_bytes() == new


def test_without_a_validator_and_a_hash_a_partial_file_is_not_trusted(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file, "cut_after": 100_000, "etag": None}, {"body": array_file, "etag": None})
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert site.ranges_asked() == [None, None]
    assert (tmp_path / "f.npy").read_bytes() == array_file


def test_with_a_known_hash_another_address_finishes_what_one_began(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    first = site.put("/a", {"body": array_file, "cut_after": 100_000}, {"status": 404})
    second = site.put("/b", {"body": array_file, "etag": None})
    fetched = fetcher.fetch(entry(first, second, sha256=sha(array_file)), tmp_path / "f.npy")
    assert fetched.url == second
    assert site.ranges_asked() == [None, "bytes=100000-", "bytes=100000-"]
    assert (tmp_path / "f.npy").read_bytes() == array_file


def test_a_wrong_partial_file_is_found_by_the_hash_and_fetched_anew(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file})
    (tmp_path / "f.npy.part").write_bytes(array_file[:50] + b"damage")
    (tmp_path / "f.npy.part.json").write_text(json.dumps({"url": url, "validator": '"v1"'}))
    fetcher.fetch(entry(url, sha256=sha(array_file)), tmp_path / "f.npy")
    assert site.ranges_asked() == ["bytes=56-", None]
    assert (tmp_path / "f.npy").read_bytes() == array_file


def test_a_partial_file_that_is_whole_already_is_taken(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file})
    (tmp_path / "f.npy.part").write_bytes(array_file)
    (tmp_path / "f.npy.part.json").write_text(json.dumps({"url": url, "validator": '"v1"'}))
    assert fetcher.fetch(entry(url), tmp_path / "f.npy").sha256 == sha(array_file)
    assert len(site.asked) == 1


@pytest.mark.parametrize("note", ["", "[]", '{"url": 3}'])
def test_a_damaged_note_costs_no_more_than_a_new_start(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path, note: str
) -> None:
    url = site.put("/f", {"body": array_file})
    (tmp_path / "f.npy.part").write_bytes(b"old")
    (tmp_path / "f.npy.part.json").write_text(note)
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert site.ranges_asked() == [None]
    assert (tmp_path / "f.npy").read_bytes() == array_file


def test_a_wrong_hash_is_refused_and_nothing_is_left(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file})
    with pytest.raises(RuntimeError, match=f"sent a file with the SHA-256 {sha(array_file)} instead of {'0' * 64}"):
        fetcher.fetch(entry(url, sha256="0" * 64), tmp_path / "f.npy")
    assert names(tmp_path) == []
    assert len(site.asked) == 1


def test_a_wrong_size_is_refused_before_the_file_is_fetched(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file})
    with pytest.raises(RuntimeError, match=f"offers a file of {len(array_file)} bytes instead of 7"):
        fetcher.fetch(entry(url, size=7), tmp_path / "f.npy")
    assert names(tmp_path) == []


def test_after_a_404_the_next_address_is_asked(
    site: Any, fetcher: Fetcher, waits: list[float], array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file})
    fetched = fetcher.fetch(entry(f"{site.url}/gone", url), tmp_path / "f.npy")
    assert fetched.url == url
    assert waits == []


def test_the_error_has_every_address_with_its_answer_in_one_line(site: Any, fetcher: Fetcher, tmp_path: Path) -> None:
    page = site.put("/page", {"body": b"<!DOCTYPE html>", "content_type": "text/html; charset=utf-8"})
    gone = f"{site.url}/gone"
    with pytest.raises(RuntimeError) as caught:
        fetcher.fetch(entry(gone, page), tmp_path / "f.npy")
    assert str(caught.value) == (
        f"cub/images.npy could not be fetched: {gone} answered 404 Not Found; "
        f"{page} sent an HTML page instead of the file (a dead link)"
    )


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\n <HTML><body>This link is gone", "an HTML page"),
        (b"error: no such file", "something else than a .npy file"),
    ],
)
def test_a_page_that_claims_to_be_data_is_refused_by_its_first_bytes(
    site: Any, fetcher: Fetcher, tmp_path: Path, body: bytes, what: str
) -> None:
    url = site.put("/f", {"body": body})
    with pytest.raises(RuntimeError, match=f"sent {what}"):
        fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert names(tmp_path) == []
    assert len(site.asked) == 1


def test_a_truncated_file_that_the_server_takes_for_whole_is_refused(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path
) -> None:
    url = site.put("/f", {"body": array_file[:-1]})
    with pytest.raises(RuntimeError, match="sent a damaged or truncated file"):
        fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert names(tmp_path) == []


def test_an_empty_answer_is_refused(site: Any, fetcher: Fetcher, tmp_path: Path) -> None:
    url = site.put("/f", {"body": b""})
    with pytest.raises(RuntimeError, match="sent an empty file"):
        fetcher.fetch(entry(url), tmp_path / "f.npy")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_after_a_growing_wait(
    site: Any, fetcher: Fetcher, waits: list[float], array_file: bytes, tmp_path: Path, status: int
) -> None:
    url = site.put("/f", {"status": status}, {"status": status}, {"body": array_file})
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert waits == [0.5, 1.0]
    assert (tmp_path / "f.npy").read_bytes() == array_file


def test_a_server_that_cannot_be_reached_is_tried_once_for_the_next_file(
    fetcher: Fetcher, waits: list[float], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/f"
    with pytest.raises(RuntimeError, match=r"could not be reached \(NewConnectionError\) \(tried 3 times\)"):
        fetcher.fetch(entry(url), tmp_path / "f.npy")
    with pytest.raises(RuntimeError, match="tried 1 times"):
        fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert waits == [0.5, 1.0]


class Bar:
    """A progress bar that fails at the second chunk."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.num_updates = error, 0

    def update(self, num_bytes: int) -> None:
        self.num_updates += 1
        if self.num_updates == 2:
            raise self.error

    def close(self) -> None:
        pass


def test_an_interrupt_keeps_the_partial_file_and_says_so(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.put("/f", {"body": array_file})
    with monkeypatch.context() as patch:
        patch.setattr(download.fetch, "track", lambda **_: Bar(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt, match=r"131072 bytes of cub/images.npy are kept in .*f\.npy\.part"):
            fetcher.fetch(entry(url), tmp_path / "f.npy")
    fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert site.ranges_asked() == [None, "bytes=131072-"]
    assert (tmp_path / "f.npy").read_bytes() == array_file


def test_a_full_disk_keeps_the_partial_file_and_says_so(
    site: Any, fetcher: Fetcher, array_file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.put("/f", {"body": array_file})
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(download.fetch, "track", lambda **_: Bar(full))
    with pytest.raises(OSError, match=r"131072 bytes of cub/images.npy are kept in") as caught:
        fetcher.fetch(entry(url), tmp_path / "f.npy")
    assert caught.value.errno == errno.ENOSPC
    assert len(site.asked) == 1
