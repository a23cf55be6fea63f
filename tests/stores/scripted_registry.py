"""A registry on the loopback device that answers as a test says: what a real registry never does."""

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
    """An answer; `cut` ends the connection after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(slots=True)
class ScriptedRegistry:
    """The answers by method and path, and the requests with their authorization."""

    address: str
    answers: dict[str, Scripted | list[Scripted]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, request: str, authorization: str | None) -> Scripted:
        """Return the answer to a request, `GET /v2/...`: of several, the next one."""
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

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 - the names that the server calls

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
