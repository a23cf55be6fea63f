"""The S3 store: what goes wrong between here and a server, and the line each fault gets."""

from __future__ import annotations

import hashlib
import io
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.store.server import free_ports
from trainer.errors import (
    AlteredError,
    StoreDeniedError,
    StoreError,
    StoreMissingError,
    StoreUnreachableError,
    UsageError,
)
from trainer.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.store.contract import Store

pytestmark = pytest.mark.s3
USES: list[Callable[[Store], object]] = [
    lambda store: list(store.read("a/b")),
    lambda store: store.size("a/b"),
    lambda store: store.create("a/b", b"body"),
    lambda store: list(store.keys("")),
]


@pytest.mark.parametrize("use", USES)
def test_a_bucket_that_does_not_exist_is_named(s3_environment: str, use: Callable[[Store], object]) -> None:
    """Missing bucket and missing object are told apart, and writing makes no bucket."""
    with pytest.raises(StoreMissingError, match=f"bucket 'absent' does not exist at {s3_environment}"):
        use(open_store("s3://absent"))


@pytest.mark.parametrize("use", USES)
def test_refused_credentials_are_said_so(
    s3_environment: str, use: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key names the endpoint, and never the key."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreDeniedError, match=f"at {s3_environment} refuses these credentials") as caught:
        use(open_store("s3://reprise"))
    assert "wrong" not in caught.value.message


def test_missing_credentials_are_said_so(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """Where boto3's chain finds nothing, the variables are named."""
    assert s3_environment
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreDeniedError, match="no usable credentials") as caught:
        open_store("s3://reprise").size("a")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)


@pytest.mark.parametrize("use", USES)
def test_a_server_that_is_away_is_known_within_five_seconds(
    s3_environment: str, use: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens there: one line, soon."""
    assert s3_environment
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_ports(1)[0]}")
    began = monotonic()
    with pytest.raises(StoreUnreachableError, match="does not answer"):
        use(open_store("s3://reprise"))
    assert monotonic() - began < 5


def test_an_endpoint_that_is_no_address_is_refused(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that holds it is named."""
    assert s3_environment
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(StoreError, match="nonsense") as caught:
        open_store("s3://reprise")
    assert "AWS_ENDPOINT_URL_S3" in str(caught.value.hint)


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    """What is expected is said."""
    with pytest.raises(UsageError, match="ftp"):
        open_store("ftp://somewhere")
    with pytest.raises(UsageError, match="empty"):
        open_store("")


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that gives every request the same bytes and hangs up."""
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


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HEAD % (b"206 Partial Content", 10) + b"12345", AlteredError),
        (HEAD % (b"200 OK", 20) + b"12345678901234567890", AlteredError),
        (HEAD % (b"503 Slow Down", 0), StoreUnreachableError),
        (HEAD % (b"500 Internal Server Error", 0), StoreUnreachableError),
        (HEAD % (b"403 Forbidden", 0), StoreDeniedError),
        (b"", StoreUnreachableError),
        (b"garbage\r\n\r\n", StoreError),
    ],
)
def test_what_a_server_answers_wrongly_has_a_name(
    s3_environment: str, answer: bytes, error: type[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body cut short, a whole body for a range, an overloaded server, one that hangs up, one that speaks no HTTP."""
    assert s3_environment
    with answering(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(error) as caught:
            list(open_store("s3://reprise").read("a/b", start=0, length=10))
    assert "\n" not in caught.value.message


def test_a_server_without_tls_is_told_apart(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An https address of a server that does not speak TLS, or whose certificate is not accepted, names TLS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_environment.replace("http:", "https:"))
    with pytest.raises(StoreUnreachableError, match="TLS") as caught:
        open_store("s3://reprise").size("a/b")
    assert "AWS_CA_BUNDLE" in str(caught.value.hint)


class Racing(ThreadingHTTPServer):
    """A server that has no object, answers the first `conflicts` writes by 409, and keeps the bodies that it was sent."""

    def __init__(self, *, conflicts: int) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), Racer)
        self.left, self.bodies = conflicts, list[bytes]()


class Racer(BaseHTTPRequestHandler):
    """One request."""

    server: Racing

    def do_HEAD(self) -> None:
        """The bucket is there, the object is not."""
        self._answer(404 if self.path.strip("/").count("/") else 200)

    def do_PUT(self) -> None:
        """Another writer was there at the same time, or not."""
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.left -= 1
        self._answer(409 if self.server.left >= 0 else 200)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def racing(conflicts: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Racing]:
    """Such a server, as the endpoint."""
    with Racing(conflicts=conflicts) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


def test_a_write_that_raced_is_sent_again_from_its_beginning(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file's second try must not be what is left of it: nothing."""
    assert s3_environment
    with racing(2, monkeypatch) as server:
        open_store("s3://reprise").write(
            "a/b", io.BytesIO(b"body"), sha256=f"sha256:{hashlib.sha256(b'body').hexdigest()}"
        )
    assert server.bodies == [b"body"] * 3


def test_a_write_that_always_races_ends(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After three tries, with the key's name."""
    assert s3_environment
    with racing(1000, monkeypatch) as server, pytest.raises(StoreError, match="a/b") as caught:
        open_store("s3://reprise").create("a/b", b"body")
    assert len(server.bodies) == 3
    assert caught.value.hint


def test_what_is_in_the_store_is_not_sent_again(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is enough: the name is the content's."""
    assert s3_environment
    monkeypatch.setattr(Racer, "do_HEAD", lambda request: request._answer(200))
    with racing(0, monkeypatch) as server:
        open_store("s3://reprise").write("a/b", b"body", sha256=f"sha256:{hashlib.sha256(b'body').hexdigest()}")
    assert server.bodies == []
