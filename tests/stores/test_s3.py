"""The S3 store: faults between this machine and a server, and the error for each fault."""

from __future__ import annotations

import hashlib
import io
import os
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES, fill
from tests.stores.server import free_ports
from trainer.base.errors import (
    DigestMismatchError,
    RepriseError,
    StoreDeniedError,
    StoreError,
    StoreMissingError,
    StoreUnreachableError,
    UsageError,
)
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Dataset, Draft
from trainer.data.fetch import fetch_dataset, read_manifest
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.versions import push_dataset
from trainer.runs.pull import pull_run
from trainer.runs.push import push_run
from trainer.stores import open_store
from trainer.stores.address import S3Access
from trainer.stores.contract import Store, object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.s3
Use = Callable[[Store, Dataset], object]
USES: list[Callable[[Store], object]] = [
    lambda store: list(store.read("a/b")),
    lambda store: store.size("a/b"),
    lambda store: store.create("a/b", b"body"),
    lambda store: list(store.keys("")),
]


def write_folder(place: Path) -> SourceFolder:
    return SourceFolder(root=fill(place / "source", FILES))


@pytest.mark.parametrize("use", USES)
def test_a_bucket_that_does_not_exist_is_named(s3_environment: str, use: Callable[[Store], object]) -> None:
    with pytest.raises(
        StoreMissingError, match=f"bucket 'absent' does not exist: store s3://absent at {s3_environment}"
    ):
        use(open_store("s3://absent"))


@pytest.mark.parametrize(("tries", "is_equal"), [(1, True), (None, False)])
def test_a_store_that_tries_once_draws_no_random_number_of_the_process(tries: int | None, *, is_equal: bool) -> None:
    """A thread that runs during training uses such a store, and training draws from the same generator."""
    access = S3Access(endpoint=f"http://127.0.0.1:{free_ports(1)[0]}", key="key", secret="key", region="here")  # noqa: S106
    store = open_store("s3://bucket", access=access, tries=tries)
    before = random.getstate()
    with pytest.raises(StoreUnreachableError):
        store.create("a/b", b"body")
    assert (random.getstate() == before) is is_equal


@pytest.mark.parametrize("use", USES)
def test_rejected_credentials_are_reported(
    s3_environment: str, use: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreDeniedError, match=f"at {s3_environment} rejects these credentials") as caught:
        use(open_store("s3://reprise"))
    assert "wrong" not in caught.value.message


@pytest.mark.parametrize("key", ["AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3", None])
@pytest.mark.parametrize(
    "use",
    [
        lambda store, _: pull_run("20260101t000000-abcdef", store, runs=Path("nowhere")),
        lambda store, _: push_run("20260101t000000-abcdef", source=store, target=MemoryStore()),
        lambda store, small: push_dataset(small, source=store, target=MemoryStore()),
        lambda store, small: fetch_dataset(small, cache=Cache(root=Path("nowhere")), open_store=lambda: store),
        lambda store, _: list(store.read("runs/a")),
    ],
)
def test_every_message_names_the_address_and_the_endpoint(
    s3_address: str, use: Use, key: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if key:
        monkeypatch.setenv(key, "wrong" if "SECRET" in key else f"http://127.0.0.1:{free_ports(1)[0]}")
    small = publish_dataset(Draft(name="small"), source=write_folder(tmp_path), store=MemoryStore()).dataset
    with pytest.raises(RepriseError) as caught:
        use(open_store(s3_address), small)
    assert f"{s3_address} at {os.environ['AWS_ENDPOINT_URL_S3']}" in caught.value.message


def test_altered_and_shortened_objects_name_the_store(s3_address: str, s3_environment: str, tmp_path: Path) -> None:
    small = publish_dataset(Draft(name="small"), source=write_folder(tmp_path), store=MemoryStore()).dataset
    store = open_store(s3_address)
    store.create(object_key(small.manifest), b"another")
    for call in (lambda: read_manifest(store, small), lambda: list(store.read(object_key(small.manifest), length=99))):
        with pytest.raises(DigestMismatchError, match=f"{s3_address} at {s3_environment}"):
            call()


def test_an_address_may_contain_server_and_profile(
    s3_address: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    (tmp_path / "config").write_text(
        f"[profile lab]\naws_access_key_id={key}\naws_secret_access_key={secret}\nendpoint_url={s3_environment}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert open_store(f"{s3_address}?endpoint={s3_environment}").size("a/b") is None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = open_store(f"{s3_address}?profile=lab")
    assert (store.size("a/b"), store.label) == (None, f"{s3_address} at {s3_environment}")


@pytest.mark.parametrize("address", ["s3://", "s3:///prefix", "s3://b?", "s3://b?endpiont=x", "s3://b?endpoint="])
def test_an_address_with_unknown_parameters_is_rejected(address: str) -> None:
    with pytest.raises(UsageError, match="store address"):
        open_store(address)


def test_missing_credentials_are_reported(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    assert s3_environment
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreDeniedError, match="no usable credentials") as caught:
        open_store("s3://reprise").size("a")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)


@pytest.mark.parametrize("use", USES)
def test_an_unreachable_server_is_reported_within_five_seconds(
    s3_environment: str, use: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert s3_environment
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_ports(1)[0]}")
    began = monotonic()
    with pytest.raises(StoreUnreachableError, match="does not respond"):
        use(open_store("s3://reprise"))
    assert monotonic() - began < 5


def test_an_invalid_endpoint_is_rejected(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3_environment
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(StoreError, match="nonsense") as caught:
        open_store("s3://reprise")
    assert "AWS_ENDPOINT_URL_S3" in str(caught.value.hint)


def test_an_address_of_an_unknown_kind_is_rejected() -> None:
    with pytest.raises(UsageError, match="ftp"):
        open_store("ftp://somewhere")
    with pytest.raises(UsageError, match="empty"):
        open_store("")


@contextmanager
def fixed_response_server(answer: bytes) -> Iterator[str]:
    """Serve the same bytes for every request and close the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=_serve, args=(server, answer), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(answer)


HEAD = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


def test_a_listing_of_several_pages_has_every_name(s3_address: str) -> None:
    store = open_store(s3_address)
    names = [f"many/{number:04}" for number in range(1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.create(name, b""), names))
    assert sorted(store.keys("many/")) == names


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>again</NextContinuationToken>"])
def test_a_listing_without_its_next_page_is_not_taken_for_complete(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    assert s3_environment
    body = f"<ListBucketResult><IsTruncated>true</IsTruncated>{token}</ListBucketResult>".encode()
    with fixed_response_server(HEAD % (b"200 OK", len(body)) + body) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(StoreError, match="a listing is truncated, and its next page is not named"):
            list(open_store("s3://reprise").keys("a"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HEAD % (b"206 Partial Content", 10) + b"12345", DigestMismatchError),
        (HEAD % (b"200 OK", 20) + b"12345678901234567890", DigestMismatchError),
        (HEAD % (b"503 Slow Down", 0), StoreUnreachableError),
        (HEAD % (b"500 Internal Server Error", 0), StoreUnreachableError),
        (HEAD % (b"403 Forbidden", 0), StoreDeniedError),
        (b"", StoreUnreachableError),
        (b"garbage\r\n\r\n", StoreError),
    ],
)
def test_each_invalid_response_has_its_own_error(
    s3_environment: str, answer: bytes, error: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert s3_environment
    with fixed_response_server(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(error) as caught:
            list(open_store("s3://reprise").read("a/b", start=0, length=10))
    assert "\n" not in caught.value.message


def test_a_server_without_tls_is_distinguished(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_environment.replace("http:", "https:"))
    with pytest.raises(StoreUnreachableError, match="TLS") as caught:
        open_store("s3://reprise").size("a/b")
    assert "AWS_CA_BUNDLE" in str(caught.value.hint)


class ConflictingServer(ThreadingHTTPServer):
    """An empty server that rejects the first `conflicts` writes with status 409, and records all bodies."""

    def __init__(self, *, conflicts: int) -> None:
        super().__init__(("127.0.0.1", 0), ConflictingHandler)
        self.left, self.bodies = conflicts, list[bytes]()
        self.kept: dict[str, tuple[bytes, str]] = {}


class ConflictingHandler(BaseHTTPRequestHandler):
    server: ConflictingServer

    def do_HEAD(self) -> None:
        if self.path in self.server.kept:
            body, checksum = self.server.kept[self.path]
            self._answer(200, length=len(body), checksum=checksum)
        else:
            self._answer(404 if self.path.strip("/").count("/") else 200)

    def do_PUT(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.left -= 1
        if self.server.left >= 0:
            self._answer(409)
        else:
            self.server.kept[self.path] = self.server.bodies[-1], self.headers["x-amz-checksum-sha256"]
            self._answer(200)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self, status: int, *, length: int = 0, checksum: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if checksum:
            self.send_header("x-amz-checksum-sha256", checksum)
        self.end_headers()


@contextmanager
def conflicting_server(conflicts: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConflictingServer]:
    with ConflictingServer(conflicts=conflicts) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


def test_a_conflicting_write_is_retried_from_its_beginning(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry must rewind the file; otherwise it would send an empty body."""
    assert s3_environment
    with conflicting_server(2, monkeypatch) as server:
        open_store("s3://reprise").write(
            "a/b", io.BytesIO(b"body"), sha256=f"sha256:{hashlib.sha256(b'body').hexdigest()}"
        )
    assert server.bodies == [b"body"] * 3


def test_a_write_that_always_conflicts_fails(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3_environment
    with conflicting_server(1000, monkeypatch) as server, pytest.raises(StoreError, match="a/b") as caught:
        open_store("s3://reprise").create("a/b", b"body")
    assert len(server.bodies) == 3
    assert caught.value.hint


def test_an_existing_object_is_not_sent_again(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3_environment
    with conflicting_server(0, monkeypatch) as server:
        for _ in range(2):
            open_store("s3://reprise").write("a/b", b"body", sha256=f"sha256:{hashlib.sha256(b'body').hexdigest()}")
    assert server.bodies == [b"body"]
