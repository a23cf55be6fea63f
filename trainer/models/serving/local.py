"""A server of a package in a thread of this process, at a port of the loopback device."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from trainer.base.errors import PackageError
from trainer.models.serving.server import Server, bound_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.models.packaged import PackagedModel
    from trainer.models.serving.limits import Limits

_POLL: Final = 0.01
_LONGEST: Final = 60.0
"""Seconds to wait for the server's start, and for its end."""


@contextmanager
def served_locally(
    model: PackagedModel, limits: Limits, *, token: str | None = None, say: Callable[[str], object]
) -> Iterator[Server]:
    """Yield a server that listens on `server.port` of 127.0.0.1, and stop it at the end. Raise `PackageError` if it does not start."""
    with bound_socket("127.0.0.1", 0) as bound:
        server = Server(model, limits, token=token, say=say)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server", daemon=True)
        thread.start()
        try:
            _wait(server, thread)
            yield server
        finally:
            server.should_exit = True
            thread.join(_LONGEST)


def _wait(server: Server, thread: threading.Thread) -> None:
    for _ in range(round(_LONGEST / _POLL)):
        if server.started:
            return
        thread.join(_POLL)
        if not thread.is_alive():
            break
    message = f"the server of package {server.service.name} does not start"
    raise PackageError(message, hint="reprise serve PACKAGE shows the reason; reprise doctor checks this machine")
