"""A lock that lets one of several processes fetch a dataset while the others wait.

The lock only saves bandwidth: without it, or if its holder hangs, a dataset is downloaded twice, which is correct. The holder writes a
counter into the lock's file, so that waiting processes can see its progress.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from itertools import count
from threading import Event, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.base.safe_folder import Root

STALE_S: Final = 15.0
"""Seconds without a new count after which the holder counts as dead."""
BEAT_S: Final = 1.0
_LOOK_S: Final = 0.1


@contextmanager
def fetch_lock(
    folder: Root, name: str, *, is_done: Callable[[], bool], waiting: Callable[[], None], stale_s: float = STALE_S
) -> Iterator[None]:
    """Wait until this process has the lock `name`, the fetch is done, or the holder seems dead.

    Raises `UnsafePathError` if `name` is not a regular file.
    """
    handle = _open(folder, name)
    if handle is None:
        yield
        return
    try:
        if not _lock(handle):
            waiting()
            _wait(handle, is_done, stale_s)
        with _heartbeat(handle):
            yield
    finally:
        os.close(handle)  # releases the lock


@contextmanager
def _heartbeat(handle: int) -> Iterator[None]:
    """Write a count every second from a thread, because hashing or flushing a large file may take minutes."""
    over = Event()
    thread = Thread(target=_write_counts, args=(handle, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write_counts(handle: int, over: Event) -> None:
    for number in count():
        with suppress(OSError):
            os.pwrite(handle, b"%d %d" % (os.getpid(), number), 0)
        if over.wait(BEAT_S):
            return


def _wait(handle: int, is_done: Callable[[], bool], stale_s: float) -> None:
    seen, since = b"", monotonic()
    while not is_done() and not _lock(handle) and monotonic() - since < stale_s:
        sleep(_LOOK_S)
        if (beat := os.pread(handle, 64, 0)) != seen:
            seen, since = beat, monotonic()


def _lock(handle: int) -> bool:
    """Try to lock; return whether this process has the lock, or the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _open(folder: Root, name: str) -> int | None:
    """Open or create the lock's file for all users.

    The file is opened before it is created, because a sticky folder rejects O_CREAT on a file of another user.
    """
    # If another user has just created it and not changed its mode yet, it is locked without a heartbeat.
    for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR, os.O_RDONLY):
        with suppress(OSError):
            handle = folder.handle(name, flags)
            if flags & os.O_CREAT:
                with suppress(OSError):
                    os.fchmod(handle, 0o666)
            return handle
    return None
