"""A local server whose answers a test writes down, and small real files."""

import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from download.fetch import Fetcher, Patience


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server says to one request."""

    body: bytes = b""
    status: int = 200
    ranges: bool = True
    cut_after: int | None = None
    etag: str | None = '"v1"'
    content_type: str = "application/octet-stream"


@dataclass
class Site:
    """A server: the answers of each path (the last one is repeated), and what was asked for."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def put(self, path: str, *answers: dict[str, Any]) -> str:
        """Set what a path answers, in turn; returns its address."""
        self.answers[path] = [Answer(**answer) for answer in answers]
        return self.url + path

    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            queue = site.answers.get(self.path, [Answer(status=404, body=b"gone")])
            self._send(queue.pop(0) if len(queue) > 1 else queue[0])

        def _send(self, answer: Answer) -> None:
            start = self._start(answer)
            if start is not None and start >= len(answer.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(answer.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = answer.body[start or 0 :]
            self.send_response(206 if start is not None else answer.status)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{len(answer.body) - 1}/{len(answer.body)}")
            if answer.etag:
                self.send_header("ETag", answer.etag)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if answer.cut_after is None else body[: answer.cut_after])
            self.close_connection = True

        def _start(self, answer: Answer) -> int | None:
            wanted = self.headers.get("Range")
            same = self.headers.get("If-Range") in (None, answer.etag)
            if answer.status != 200 or not answer.ranges or wanted is None or not same:
                return None
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site(url="")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def waits() -> list[float]:
    """Seconds that the fetcher would have slept."""
    return []


@pytest.fixture
def fetcher(waits: list[float]) -> Fetcher:
    return Fetcher(Patience(attempts=3, backoff=0.5, timeout=5.0, sleep=waits.append))


@pytest.fixture
def array_file() -> bytes:
    """A .npy file of 300 kB, which is several chunks."""
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 256, (100, 1000, 3), dtype=np.uint8))
    return buffer.getvalue()


@pytest.fixture
def zip_file() -> Callable[[dict[str, bytes]], bytes]:
    def make(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make
