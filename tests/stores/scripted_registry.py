"""A registry on loopback whose responses a test sets, also responses that a real registry never sends."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """A response; if `cut` is set, the connection ends after `cut` bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(slots=True)
class ScriptedRegistry:
    """The responses by method and path, and the received requests with their authorization."""

    address: str
    answers: dict[str, Scripted | list[Scripted]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, request: str, authorization: str | None) -> Scripted:
        """Return the response to a request such as `GET /v2/...`, or the next response if the request has a list of them."""
        self.requests.append((request, authorization))
        found = self.answers.get(request, Scripted(status=404))
        return found if isinstance(found, Scripted) else found.pop(0)


@contextmanager
def scripted_registry() -> Iterator[ScriptedRegistry]:
    """Run a registry in a thread, and stop it at the end."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = registry.answer(f"{self.command} {self.path}", self.headers.get("Authorization"))
            self.send_response(found.status)
            for name, value in {"Content-Length": str(len(found.body)), **found.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body[: found.cut])

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - the base class calls these names

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry = ScriptedRegistry(address=f"127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
