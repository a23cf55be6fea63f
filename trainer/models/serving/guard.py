"""The middleware around each request: the token, the limits, the metrics, and a response to every error."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers

from trainer.models.serving.limits import BodySize, RequestError, check_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from trainer.models.serving.limits import Limits
    from trainer.models.serving.metrics import Metrics

OPEN: Final = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
"""Paths that need no token: health, and the page, which has no data of the package."""
_DISCARD_SECONDS: Final = 1.0
"""Seconds to read the rest of a rejected body."""
_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


@dataclass(slots=True)
class Occupancy:
    """The number of POST requests in progress."""

    requests: int = field(default=0)


class Guard:
    """Calls the application for each request within the limits, and sends every error as JSON."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        metrics: Metrics,
        token: str | None,
        occupancy: Occupancy,
        paths: Iterable[str],
        say: Callable[[str], object],
    ) -> None:
        """`paths` are the endpoints that the metrics count separately; `say` prints a line."""
        self._app, self._limits, self._metrics, self._occupancy = app, limits, metrics, occupancy
        self._token, self._paths, self._say = token, frozenset(paths), say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an HTTP request. Other scopes are passed to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, request = time.perf_counter(), _GuardedRequest(self._limits, receive, send)
        try:
            await self._handle(scope, request)
        finally:
            endpoint = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.add_request(endpoint, request.status or 499, time.perf_counter() - begin)

    async def _handle(self, scope: Scope, request: _GuardedRequest) -> None:
        try:
            async with asyncio.timeout(self._limits.timeout):
                self._check(scope)
                await self._admitted(scope, request)
        except RequestError as fault:
            await request.discard()
            await request.fail(fault)
        except TimeoutError:
            await request.fail(request.late())
        except _DisconnectedError:
            return
        except Exception as fault:  # noqa: BLE001 - no exception may reach a client
            await request.fail(self._unexpected(fault))

    async def _admitted(self, scope: Scope, request: _GuardedRequest) -> None:
        if scope["method"] != "POST":
            await self._app(scope, request.receive, request.send)
            return
        if self._occupancy.requests >= self._limits.concurrency:
            message = f"the server has {self._limits.concurrency} requests in progress, its limit"
            raise RequestError(503, message, hint="try again", headers={"retry-after": "1", "connection": "close"})
        self._occupancy.requests += 1
        try:
            await self._app(scope, request.receive, request.send)
        finally:
            self._occupancy.requests -= 1

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._token is not None and scope["path"] not in OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
                message = "the request has no valid token"
                hint = "send the header `Authorization: Bearer TOKEN` with the token of --token-file"
                raise RequestError(
                    401, message, hint=hint, headers={"www-authenticate": "Bearer", "connection": "close"}
                )
        check_headers(headers, most=self._limits.max_body)

    def _unexpected(self, fault: Exception) -> RequestError:
        number = secrets.token_hex(4)
        self._say(f"error {number}: unexpected {type(fault).__name__}: {' '.join(str(fault).split())[:300]}")
        message = f"the server failed; its log has the error {number}"
        return RequestError(500, message, hint="report this number to the server's operator")


class _DisconnectedError(Exception):
    """The client closed the connection."""


class _GuardedRequest:
    """A request whose body is counted and whose response's status is noted."""

    def __init__(self, limits: Limits, receive: Receive, send: Send) -> None:
        self._limits, self._receive, self._send = limits, receive, send
        self._body = BodySize(limits.max_body)
        self.status = 0

    async def receive(self) -> Message:
        """Return the next part of the body. Raise `RequestError` if the body is too large."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            if not self.status:
                raise _DisconnectedError
            return message
        self._body.add(message.get("body", b""), more=message.get("more_body", False))
        return message

    async def discard(self) -> None:
        """Read the rest of a rejected body, for a moment and up to the limit: closing a connection with unread bytes loses the response."""
        read = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._body.is_complete and not self.status and read <= self._limits.max_body:
                    message = await self._receive()
                    if not message.get("more_body", False):
                        return
                    read += len(message.get("body", b""))

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await self._send(message)

    async def fail(self, fault: RequestError) -> None:
        """Send an error, unless a part of a response was already sent."""
        if self.status:
            return
        headers: dict[str, str] = {
            "content-type": "application/json",
            "content-length": str(len(fault.body)),
            **fault.headers,
        }
        if not self._body.is_complete:
            headers["connection"] = "close"  # the rest of the body is not read
        pairs: list[Any] = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": fault.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": fault.body})

    def late(self) -> RequestError:
        """Return the error for a request that took too long."""
        seconds = f"{self._limits.timeout:g} s"
        if not self._body.is_complete:
            return RequestError(408, f"the body did not arrive within {seconds}", hint="send fewer samples at once")
        return RequestError(504, f"the response was not ready within {seconds}", hint="send fewer samples at once")
