"""Locks in the cache: leases, which keep `data gc` from removing data of a running process, and the lock of a fetch.

A lease is a locked file. It is active as long as its process or a forked loader worker exists, because the system releases the lock when
they end. The lock is checked only within the same boot of a system, which all containers on it share, and only if locks work on the file
system. Any other lease, such as that of another machine, counts as active for 30 days. A process that cannot write to the cache locks the
version's folder instead, which needs only read access.

The lock of a fetch lets one of several processes fetch a dataset while the others wait. It only saves bandwidth: without it, or if its
holder hangs, a dataset is downloaded twice, which is safe. The holder writes a counter to the lock's file, so that waiting processes
can see its progress.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import weakref
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.digest import Digest, canonical
from trainer.base.document import Document, Seconds, parse_json
from trainer.base.errors import DocumentError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.data.cache.objects import make_shared_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STALE_S: Final = 15.0
"""Seconds without a new count after which the holder counts as dead."""
BEAT_S: Final = 1.0
_LOOK_S: Final = 0.1
FOLDER: Final = "leases"
LONGEST_S: Final = 30 * 24 * 3600.0
"""Seconds for which a lease is active if its lock cannot be checked; no run is expected to take longer."""


class LeaseDocument(Document):
    """The contents of a lease's file."""

    format: Literal["reprise.lease/1"] = "reprise.lease/1"
    name: str
    content: Digest
    boot: str
    since: Seconds
    """Seconds since 1970."""


class Lease:
    """A lease of this process, which ends with `end`, with the last reference to it, or with the process."""

    def __init__(self, root: Path, name: str | None, handle: int) -> None:
        """Own `handle`: the locked file `name` in the cache `root`, or a version's locked folder if `name` is `None`."""
        self.end = weakref.finalize(self, _end, root, name, handle, os.getpid())


def take_lease(root: Path, *, name: str, content: str, place: str) -> Lease | None:
    """Lease the dataset in the folder `place` below `root`; `None` if no file can be created and the folder cannot be locked."""
    file = f"{name}-{os.getuid()}-{secrets.token_hex(8)}.json"
    try:
        with make_shared_folder(root, FOLDER) as folder:
            handle = folder.handle(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o644)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        os.write(handle, canonical(LeaseDocument(name=name, content=content, boot=boot(), since=time()).model_dump()))
    except OSError:
        return lock_version(root, place)
    return Lease(root, file, handle)


def lock_version(root: Path, place: str) -> Lease | None:
    """Lock the folder of a version, which needs only read access; `None` if it cannot be locked."""
    with suppress(OSError, UnsafePathError), Root.at(root) as whole, whole.below(place) as folder:
        handle = os.dup(folder.fileno())
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
        except OSError:
            os.close(handle)
            return None
        return Lease(root, None, handle)
    return None


def is_locked(root: Root, place: str) -> bool:
    """Return whether a process without write access to the cache has locked the version's folder `place`."""
    with suppress(OSError, UnsafePathError), root.below(place) as folder:
        return not _lock(folder.fileno())
    return False


def active_leases(root: Path, *, now: float) -> Iterator[LeaseDocument | None]:
    """Yield the leases that are or may be active, and `None` for an unreadable or incomplete lease, which may be for any dataset.

    Links and folders are ignored, because Reprise creates leases only as files.
    """
    with suppress(FileNotFoundError), Root.at(root) as whole, whole.below(FOLDER) as folder:
        for name in folder.names():
            with suppress(FileNotFoundError, UnsafePathError):
                if name.endswith(".json") and not _is_over(folder, name, now):
                    yield _read(folder, name)


def boot() -> str:
    """Return the identifier of the current boot, which all containers on a system share; `unknown` if the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return "unknown"


def _read(folder: Root, name: str) -> LeaseDocument | None:
    try:
        return parse_json(folder.read(name), LeaseDocument, where=str(folder.path / name))
    except (DocumentError, PermissionError):
        return None


def _is_over(folder: Root, name: str, now: float) -> bool:
    lease = _read(folder, name)
    info = folder.stat(name)
    if info is None or now - (info.st_mtime if lease is None else lease.since) > LONGEST_S:
        return True
    if lease is None or lease.boot != boot() or boot() == "unknown":
        return False
    handle = folder.handle(name, os.O_RDONLY)
    try:
        return _lock(handle) and _locks_work(folder, name)
    except OSError:
        return False
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locks_work(folder: Root, name: str) -> bool:
    """Return whether locks work on this file system: a second lock on the locked file `name` must fail."""
    second = folder.handle(name, os.O_RDONLY)
    try:
        return not _lock(second)
    finally:
        os.close(second)


def _end(root: Path, name: str | None, handle: int, owner: int) -> None:
    if name is not None and os.getpid() == owner:  # not in a forked worker, which ends before its parent
        with suppress(OSError, UnsafePathError), Root.at(root) as whole:
            whole.unlink(f"{FOLDER}/{name}")
    with suppress(OSError):
        os.close(handle)


@contextmanager
def fetch_lock(
    folder: Root, name: str, *, is_done: Callable[[], bool], waiting: Callable[[], None], stale_s: float = STALE_S
) -> Iterator[None]:
    """Wait until this process has the lock `name`, the fetch is done, or the holder seems dead; then run the block.

    `waiting` is called before a wait. Raise `UnsafePathError` if `name` is not a regular file.
    """
    handle = open_lock(folder, name)
    if handle is None:
        yield
        return
    try:
        if not _may_fetch(handle):
            waiting()
            _wait(handle, is_done, stale_s)
        with _heartbeat(handle):
            yield
    finally:
        os.close(handle)  # releases the lock


@contextmanager
def _heartbeat(handle: int) -> Iterator[None]:
    """Write a counter every second in a thread, because hashing or flushing a large file may take minutes."""
    over = Event()

    def write_counts() -> None:
        for number in count():
            with suppress(OSError):
                os.pwrite(handle, b"%d %d" % (os.getpid(), number), 0)
            if over.wait(BEAT_S):
                return

    thread = Thread(target=write_counts, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait(handle: int, is_done: Callable[[], bool], stale_s: float) -> None:
    seen, since = b"", monotonic()
    while not is_done() and not _may_fetch(handle) and monotonic() - since < stale_s:
        sleep(_LOOK_S)
        if (beat := os.pread(handle, 64, 0)) != seen:
            seen, since = beat, monotonic()


def _may_fetch(handle: int) -> bool:
    """Try to lock; return whether this process has the lock, or the file system has no locks."""
    try:
        return _lock(handle)
    except OSError:
        return True


def open_lock(folder: Root, name: str) -> int | None:
    """Open the lock's file, or create it for all users; `None` if that fails. Raise `UnsafePathError` if it is not a regular file.

    The file is opened before it is created, because a sticky folder rejects O_CREAT on another user's file.
    """
    # O_RDONLY: if another user has just created the file and not yet changed its mode, it is locked without a heartbeat.
    for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR, os.O_RDONLY):
        with suppress(OSError):
            handle = folder.handle(name, flags)
            if flags & os.O_CREAT:
                with suppress(OSError):
                    os.fchmod(handle, 0o666)
            return handle
    return None
