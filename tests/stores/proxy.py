"""A proxy in front of a real S3 server that damages responses as networks, load balancers and overloaded servers do."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fault = Callable[["Answer"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The server's complete response to a GET, and the connection to the waiting client."""

    handler: BaseHTTPRequestHandler
    status: int
    body: bytes
    whole: bytes
    """The whole object; `body` may be a range of it."""
    over: threading.Event

    def begin(self, *, status: int | None = None, length: int | None = None, chunked: bool = False) -> None:
        """Send the header."""
        self.handler.send_response(status or self.status)
        if chunked:
            self.handler.send_header("Transfer-Encoding", "chunked")
        else:
            self.handler.send_header("Content-Length", str(len(self.body) if length is None else length))
        self.handler.end_headers()

    def send(self, data: bytes) -> None:
        """Send a part of the body."""
        self.handler.wfile.write(data)
        self.handler.wfile.flush()

    def hang_up(self, *, rudely: bool = False) -> None:
        """Close the connection, with a reset if `rudely` is set."""
        self.handler.close_connection = True
        if rudely:
            self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.connection.shutdown(socket.SHUT_WR) if not rudely else self.handler.connection.close()


@dataclass(slots=True, kw_only=True)
class Plan:
    """The responses that are damaged: `times` GETs of paths that end with one of `keys`, after `after` correct responses."""

    fault: Fault
    keys: tuple[str, ...]
    times: int
    after: int = 0
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spoils(self, path: str) -> bool:
        """Return whether the response is damaged."""
        if not any(path.endswith(key) for key in self.keys):
            return False
        with self.lock:
            self.seen += 1
            return self.after < self.seen <= self.after + self.times


class QuietServer(ThreadingHTTPServer):
    """A server that ignores clients that closed the connection."""

    def handle_error(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def spoiling_proxy(endpoint: str, plan: Plan) -> Iterator[str]:
    """Yield the address of a proxy in front of `endpoint`."""
    upstream, over = urlsplit(endpoint).netloc, threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

        def pass_on(self) -> None:
            """Forward the request, and send the response or a damaged response."""
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(length) if length else None
            answer, body = send_request(upstream, self.command, self.path, dict(self.headers), sent)
            if self.command == "GET" and plan.spoils(urlsplit(self.path).path):
                headers = {name: text for name, text in self.headers.items() if name.lower() != "range"}
                _, whole = send_request(upstream, "GET", self.path, headers, None)
                plan.fault(Answer(handler=self, status=answer.status, body=body, whole=whole, over=over))
                return
            self.send_response(answer.status)
            for name, text in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                    self.send_header(name, text)
            if self.command != "HEAD" and "Content-Length" not in dict(answer.getheaders()):
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = pass_on  # noqa: N815 - the base class calls these names

    server = QuietServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def send_request(host: str, verb: str, path: str, headers: dict[str, str], body: bytes | None) -> Any:
    """Send a request to the real server."""
    connection = HTTPConnection(host)
    connection.request(verb, path, body=body, headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer, data


def cut_short(answer: Answer) -> None:
    """Announce the full length, but send only half of the bytes."""
    answer.begin()
    answer.send(answer.body[: len(answer.body) // 2])
    answer.hang_up()


def flipped(answer: Answer) -> None:
    """Change one bit."""
    answer.begin()
    middle = len(answer.body) // 2
    answer.send(answer.body[:middle] + bytes([answer.body[middle] ^ 1]) + answer.body[middle + 1 :])


def busy(answer: Answer) -> None:
    """Send status 503, as S3 does if there are too many requests."""
    text = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    answer.begin(status=503, length=len(text))
    answer.send(text)


def reset(answer: Answer) -> None:
    """Reset the connection in the middle of the body."""
    answer.begin()
    answer.send(answer.body[: len(answer.body) // 2])
    answer.hang_up(rudely=True)


def replaced(answer: Answer) -> None:
    """Send another object of the same length."""
    answer.begin()
    answer.send(bytes(len(answer.body)))


def whole_body(answer: Answer) -> None:
    """Ignore the requested range: send status 200 and the whole object."""
    answer.begin(status=200, length=len(answer.whole))
    answer.send(answer.whole)


def stalled(answer: Answer) -> None:
    """Send half of the body, and then keep the connection open without sending more."""
    answer.begin()
    answer.send(answer.body[: len(answer.body) // 2])
    answer.over.wait(30)
    answer.hang_up()


def trickling(answer: Answer) -> None:
    """Send the body slowly in small blocks."""
    answer.begin()
    for at in range(0, len(answer.body), 500):
        answer.send(answer.body[at : at + 500])
        answer.over.wait(0.01)


def endless(answer: Answer) -> None:
    """Send a body without a length or an end."""
    answer.begin(chunked=True)
    block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    try:
        while not answer.over.is_set():
            answer.send(block)
    except OSError:
        answer.handler.close_connection = True
