"""The real S3 client and a server that accepts connections but does not respond: reads pause and resume, and a stop ends the threads."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from botocore.config import Config

from tests.data.streams import Streams, published
from trainer.base.errors import StoppedError, StoreUnreachableError
from trainer.data import read_ahead
from trainer.data.cache.streamed import StreamedDataset
from trainer.data.stream import open_dataset
from trainer.stores import open_store, s3
from trainer.stores.address import S3Access
from trainer.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.stores.memory import MemoryStore

COUNT, SIZE = 60, 100_000
LIMIT = COUNT * SIZE // 4
READ_TIMEOUT_S = 0.3


class Gate:
    """A bucket with the objects of an in-memory store; while `is_open` is not set, requests are accepted without a response."""

    def __init__(self) -> None:
        self.is_open, self.over = threading.Event(), threading.Event()
        self.is_open.set()
        self.hung = 0

    def wait(self) -> bool:
        """Wait until the gate is open; return whether the response may be sent."""
        self.hung += not self.is_open.is_set()
        return self.is_open.wait(30) and not self.over.is_set()


@contextmanager
def bucket(store: MemoryStore, gate: Gate) -> Iterator[str]:
    """Serve ranges of objects over HTTP, as S3 does; yield the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

        def do_GET(self) -> None:
            if not gate.wait():
                self.close_connection = True
                return
            key = urlsplit(self.path).path.removeprefix("/bucket/")
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            length = int(last) + 1 - int(first) if last else None
            body = b"".join(store.read(key, start=int(first), length=length))
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients may close the connection
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        gate.over.set()
        gate.is_open.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def streams(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    numbers = np.random.default_rng(0)
    streams = published(tmp_path, {f"{number:04}.bin": numbers.bytes(SIZE) for number in range(COUNT)})
    short = s3._OWN_SERVER.merge(Config(read_timeout=READ_TIMEOUT_S, retries={"total_max_attempts": 1}))
    monkeypatch.setattr(s3, "_OWN_SERVER", short)
    with bucket(streams.store, gate) as endpoint:
        keys = {"key": "key", "secret": "key", "region": "here"}
        access = S3Access(endpoint=endpoint, **keys)
        monkeypatch.setattr(streams, "open_store", lambda: open_store("s3://bucket", access=access))
        yield streams


def opened(streams: Streams, **patience: Any) -> StreamedDataset:
    data = open_dataset(streams.source(LIMIT), patience=Patience(**patience))
    assert isinstance(data, StreamedDataset)
    return data


def read_files(data: StreamedDataset, before: Callable[[int], None] = lambda _: None) -> dict[str, bytes]:
    """Read all files in batches of ten; `before` is called before each batch."""
    paths = [f"{number:04}.bin" for number in np.random.default_rng(1).permutation(COUNT)]
    batches = [paths[at : at + 10] for at in range(0, COUNT, 10)]
    ahead = data.read_ahead([[next(data.chunk_ids(path, 0, SIZE)) for path in batch] for batch in batches])
    found: dict[str, bytes] = {}
    for number, batch in enumerate(batches):
        before(number)
        ahead.wait(number)
        found |= {path: bytes(data.read(path)) for path in batch}
        ahead.advance(number + 1)
    data.close()
    return found


def test_a_store_that_does_not_answer_costs_a_pause_and_two_lines(streams: Streams, gate: Gate) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        gate.is_open.set()

    def hang(number: int) -> None:
        if number == 2:
            gate.is_open.clear()

    assert read_files(opened(streams, say=say), hang) == streams.files
    assert gate.hung > 0
    assert "retrying for up to 15 minutes" in said[0]
    assert said[1].startswith("the store is reachable again after ")
    assert len(said) == 2


def test_a_stop_is_raised_while_the_store_does_not_answer(
    streams: Streams, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "_SLOW_S", 0.0)

    def stopped() -> None:
        if not gate.is_open.is_set():
            raise StoppedError("stopped by SIGTERM", hint="")

    def hang(number: int) -> None:
        if number == 2:
            gate.is_open.clear()

    data = opened(streams, check=stopped)
    with pytest.raises(StoppedError):
        read_files(data, hang)
    data.stop()
    gate.is_open.set()
    data.close()


def test_an_outage_that_is_too_long_ends_with_the_error_of_the_store(streams: Streams, gate: Gate) -> None:
    data = opened(streams, longest_s=0.5)
    gate.is_open.clear()
    with pytest.raises(StoreUnreachableError):
        read_files(data)
    gate.is_open.set()
    data.close()
