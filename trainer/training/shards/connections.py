"""The connections of this process to the other ranks: a thread can cut them, so that no exchange waits for a lost rank."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER: Final = Path("/proc/self/fd")
_CONNECTIONS: Final[set[tuple[int, str]]] = set()
"""Descriptors with the names of their sockets: a reused descriptor has another name."""


def _sockets() -> set[tuple[int, str]]:
    found = set()
    for path in _FOLDER.iterdir() if _FOLDER.is_dir() else ():
        with suppress(OSError):
            if (name := str(path.readlink())).startswith("socket:"):
                found.add((int(path.name), name))
    return found


@contextmanager
def connecting() -> Iterator[None]:
    """Record the sockets that the block opens as connections to the other ranks."""
    before = _sockets()
    yield
    _CONNECTIONS.update(_sockets() - before)


def cut_connections() -> None:
    """Shut down the connections to all other ranks: an exchange that waits for another rank fails immediately."""
    for descriptor, _ in _CONNECTIONS & _sockets():
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
            if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                connection.shutdown(socket.SHUT_RDWR)
