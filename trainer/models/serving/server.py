"""A server of one package: a socket, its connections, and how it stops."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from trainer.base.errors import PortTakenError, UsageError
from trainer.models.serving.app import Service, make_app
from trainer.models.serving.limits import MOST_HEADER, json_bytes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

    from fastapi import FastAPI

    from trainer.models.packaged import PackagedModel
    from trainer.models.serving.limits import Limits

_HEADER_SECONDS: Final = 10
"""Seconds for the headers of a request."""
_IDLE_SECONDS: Final = 15
"""Seconds without a request after which a connection is closed."""
_LINGER_SECONDS: Final = 1.0
"""Seconds to read the rest of data that is not HTTP: closing a connection with unread bytes loses the response."""
_EXTRA: Final = 5
"""Seconds that a server waits after SIGTERM, in addition to the time limit of a request."""


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of this machine.

    Raise `PortTakenError` if the port is in use, and `UsageError` if the address is not valid or the port is not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as fault:
        raise UsageError(f"--host {host} is not a valid address: {fault.strerror}", hint="--host 127.0.0.1") from fault
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        bound.listen()
    except OSError as fault:
        bound.close()
        if isinstance(fault, PermissionError):
            message = f"port {port} is not allowed for this user"
            raise UsageError(message, hint="--port 8080, or another port that is 1024 or higher") from fault
        message = f"port {port} on {host} cannot be used: {fault.strerror}"
        raise PortTakenError(message, hint=f"--port {port + 1}") from fault
    return bound


class Server(uvicorn.Server):
    """Serves requests until SIGTERM or Ctrl-C, then completes the accepted requests and stops. `run(sockets=[...])` starts the server."""

    def __init__(
        self, model: PackagedModel, limits: Limits, *, token: str | None, say: Callable[[str], object]
    ) -> None:
        """`say` prints a line."""
        self.service, self._say = Service(model, limits), say
        self.port = 0
        super().__init__(_config(make_app(self.service, token=token, say=say), limits))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, and print its address."""
        addresses = [each.getsockname()[:2] for each in sockets or []]
        if addresses:
            self.port = addresses[-1][1]  # before `started` is true, for which a client in another thread waits
        await super().startup(sockets=sockets)
        for host, port in addresses:
            shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound: it is shown as an address that a browser can open
            self._say(f"serving {self.service.name} at http://{f'[{shown}]' if ':' in shown else shown}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Turn readiness off and stop; unlike the base class, do not raise the signal again at the end."""
        self.service.is_ready = False
        super().handle_exit(sig, frame)
        self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Complete the accepted requests, and print a line."""
        await super().shutdown(sockets=sockets)
        self._say(f"stopped serving {self.service.name}")


def _config(app: FastAPI, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_LimitedConnection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=math.ceil(limits.timeout) + _EXTRA,
        h11_max_incomplete_event_size=MOST_HEADER,  # for headers that arrive in several parts
    )


class _LimitedConnection(H11Protocol):
    """A connection that is closed if its client does not send the headers of a request in time."""

    _deadline: asyncio.TimerHandle | None = None
    _is_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base class
        """Wait for the headers of the first request."""
        super().connection_made(cast("asyncio.Transport", _JoinedWrites(transport, self.loop)))
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Process received data, and start to wait for headers between requests. Data after an error is ignored."""
        if self._is_ended:
            return
        if self._is_idle and self._deadline is None:
            self._expect_headers()
        super().data_received(data)
        if not self._is_idle:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for headers."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Send status 400 with JSON for data that is not HTTP. If part of a response was already sent, close the connection."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        body = json_bytes({"error": msg, "hint": "send a request of HTTP/1.1"})
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        events: list[Any] = [h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()]
        for event in events:
            self.transport.write(self.conn.send(event))
        self._end()

    def _end(self) -> None:
        """End the response and the application's request, and close the connection after its data was read for a moment."""
        self._is_ended = True
        if not self._is_idle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr] # before the first request

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(_HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _JoinedWrites:
    """A transport that joins the writes of an iteration of the event loop: the head and body of a response are one packet."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Return another method of the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data at the end of this iteration of the event loop."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def write_eof(self) -> None:
        """Send the pending data, and close the writing end."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Send the pending data, and close the connection."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._parts:
            data, self._parts = b"".join(self._parts), []
            self._transport.write(data)
