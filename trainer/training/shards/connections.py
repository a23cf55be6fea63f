"""The connections of this process to the other ranks: a thread can cut them, so that no exchange waits for a lost rank.

Gloo's threads execute the exchanges. Such a thread can own the last reference to a tensor of an exchange for a moment after the exchange
has ended; if it releases the tensor while the interpreter ends, the process is aborted. Distributed parameters keep these threads alive
after the process group was destroyed, so `disconnect` waits until they are idle. Source: pytorch/pytorch, issue 190489.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER: Final = Path("/proc/self/fd")
_THREADS: Final = Path("/proc/self/task")
_WORKER: Final = "pt_gloo_runloop"
"""The name of a thread that executes exchanges."""
_IDLE: Final = 30.0
"""Seconds after which the threads are no longer waited for."""
_LOOKS: Final = 2
"""How many looks in sequence must find the threads idle: a thread that waits for a lock looks idle too."""
_PAUSE: Final = 0.01
"""Seconds between two looks at the threads; in these seconds a thread can get the interpreter's lock."""
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


def disconnect(*, is_failed: bool) -> None:
    """Destroy the process group, and wait until no thread has a tensor of an exchange; if this rank failed, cut the connections too."""
    try:
        distributed.destroy_process_group()
    finally:
        if is_failed:
            cut_connections()  # distributed parameters keep them open; now the other ranks fail immediately
        _wait_for_workers()


def _wait_for_workers() -> None:
    """Wait until the threads that execute exchanges are idle, for `_IDLE` seconds at most."""
    end, idle = monotonic() + _IDLE, 0
    while idle < _LOOKS and monotonic() < end:
        sleep(_PAUSE)
        idle = idle + 1 if all(state == "S" for state in _workers()) else 0


def _workers() -> Iterator[str]:
    """Yield the state of each thread that executes exchanges, a letter as in `man 5 proc`."""
    for folder in _THREADS.iterdir() if _THREADS.is_dir() else ():
        with suppress(OSError):
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            if name == _WORKER:
                yield rest.split()[0]
