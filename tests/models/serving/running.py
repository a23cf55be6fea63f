"""Servers in a thread of the test's process, and requests to them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

from trainer.models.serving.local import served_locally

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.models.packaged import PackagedModel
    from trainer.models.serving.limits import Limits
    from trainer.models.serving.server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerResponse:
    """The response of a server."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running server."""

    port: int
    server: Server
    lines: list[str] = field(default_factory=list)

    @property
    def infer(self) -> str:
        """The path for inference requests."""
        return f"/v2/models/{self.server.service.name}/infer"

    def get(self, path: str, **headers: str) -> ServerResponse:
        """Get a path."""
        return self.send("GET", path, None, **headers)

    def post(self, path: str, body: Any, **headers: str) -> ServerResponse:
        """Post bytes, or a value as JSON."""
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"content_type": "application/json", **headers}
        return self.send("POST", path, body, **headers)

    def send(self, method: str, path: str, body: bytes | None, **headers: str) -> ServerResponse:
        """Send a request on a new connection."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            found = connection.getresponse()
            named = {name.lower(): value for name, value in found.getheaders()}
            return ServerResponse(status=found.status, body=found.read(), headers=named)
        finally:
            connection.close()


@contextmanager
def running(model: PackagedModel, limits: Limits, *, token: str | None = None) -> Iterator[Running]:
    """Run a server in a thread, and stop it at the end."""
    lines: list[str] = []
    with served_locally(model, limits, token=token, say=lines.append) as server:
        yield Running(port=server.port, server=server, lines=lines)
