"""Taking turns: of several processes that need the same dataset, one fetches and the others wait.

A courtesy that saves bandwidth. Nothing that is right depends on it: a lock that cannot be had or that lies, or a holder that does not get
on, costs a second download and nothing else. The holder writes a counter into the lock's file, so that those who wait can see it work.
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
"""A holder that has written nothing for so long is taken for dead."""
BEAT_S: Final = 1.0
_LOOK_S: Final = 0.1


@contextmanager
def turn(
    folder: Root, name: str, *, is_done: Callable[[], bool], waiting: Callable[[], None], stale_s: float = STALE_S
) -> Iterator[None]:
    """Wait until it is this process's turn at the lock `name`, or it is no longer needed, or the holder seems dead.

    Raises `UnsafePathError` if what has that name is no file.
    """
    handle = _opened(folder, name)
    if handle is None:
        yield
        return
    try:
        if not _taken(handle):
            waiting()
            _wait(handle, is_done, stale_s)
        with _beating(handle):
            yield
    finally:
        os.close(handle)  # and with it the lock


@contextmanager
def _beating(handle: int) -> Iterator[None]:
    """Write a sign of life every second, from a thread: to hash or to flush a large file may take minutes."""
    over = Event()
    thread = Thread(target=_beat, args=(handle, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _beat(handle: int, over: Event) -> None:
    for number in count():
        with suppress(OSError):
            os.pwrite(handle, b"%d %d" % (os.getpid(), number), 0)
        if over.wait(BEAT_S):
            return


def _wait(handle: int, is_done: Callable[[], bool], stale_s: float) -> None:
    seen, since = b"", monotonic()
    while not is_done() and not _taken(handle) and monotonic() - since < stale_s:
        sleep(_LOOK_S)
        if (beat := os.pread(handle, 64, 0)) != seen:
            seen, since = beat, monotonic()


def _taken(handle: int) -> bool:
    """Whether the lock is ours; where there are no locks, it is."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _opened(folder: Root, name: str) -> int | None:
    """The lock's file, made for everybody. Opened before it is made: in a sticky folder O_CREAT on another's file is refused."""
    with suppress(OSError):
        return folder.handle(name, os.O_RDWR)
    with suppress(OSError):
        handle = folder.handle(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        with suppress(OSError):
            os.fchmod(handle, 0o666)
        return handle
    with suppress(OSError):
        return folder.handle(name, os.O_RDWR)
    with suppress(
        OSError
    ):  # another user made it at this moment, and not for everybody yet: it can be locked, without a sign of life
        return folder.handle(name, os.O_RDONLY)
    return None
