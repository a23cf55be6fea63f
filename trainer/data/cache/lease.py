"""Leases: who reads which dataset of the cache now, so that nothing is swept away under a run.

Knows how long a lease holds: as long as its process, by a lock that the system takes back when the process ends, whatever ends it; loader
workers that were forked hold it too. The lock is believed only in the same start of the same system (all its containers share it), and only
where locks are seen to work. Of another machine's lease nothing is known but its age, so it holds for 30 days.

A process that cannot write to the cache holds a lock of the version's folder instead, which needs no more than reading it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import weakref
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.digest import Digest, canonical
from trainer.base.document import Document, Seconds, parse_json
from trainer.base.errors import DocumentError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.data.cache.objects import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = "leases"
_LARGEST: Final = 1 << 16
LONGEST_S: Final = 30 * 24 * 3600.0
"""How long a lease holds of which nothing else is known: longer than runs last."""


class Leased(Document):
    """What stands in a lease."""

    format: Literal["reprise.lease/1"] = "reprise.lease/1"
    name: str
    content: Digest
    boot: str
    since: Seconds
    """Seconds since 1970."""


class Lease:
    """A lease of this process, until `end` is called, or nobody has it any more, or the process ends."""

    def __init__(self, root: Path, name: str | None, handle: int) -> None:
        """Hold a lease of the cache `root` that was just written and locked; without a name, the lock of a version's folder."""
        self.end = weakref.finalize(self, _end, root, name, handle, os.getpid())


def take(root: Path, *, name: str, content: str, place: str) -> Lease | None:
    """Say that this process reads a dataset, which is in the folder `place` below `root`; None if that cannot be locked either."""
    called = f"{name}-{os.getuid()}-{secrets.token_hex(8)}.json"
    try:
        with shared(root, FOLDER) as folder:
            handle = folder.handle(called, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o644)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        os.write(handle, canonical(Leased(name=name, content=content, boot=boot(), since=time()).model_dump()))
    except OSError:
        return locked_folder(root, place)
    return Lease(root, called, handle)


def locked_folder(root: Path, place: str) -> Lease | None:
    """Lock the folder of a version, which needs no more than reading it; None if it cannot be locked."""
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
    """Whether a process that cannot write to the cache reads the version in the folder `place`."""
    with suppress(OSError, UnsafePathError), root.below(place) as folder:
        return not _locked(folder.fileno())
    return False


def leases(root: Path, *, now: float) -> Iterator[Leased | None]:
    """All leases that hold, or may hold; None for one that is being written, or cannot be read: it may be for anything.

    What is no file, as a link, is no lease: no process of Reprise makes such.
    """
    with suppress(FileNotFoundError), Root.at(root) as whole, whole.below(FOLDER) as folder:
        for name in folder.names():
            with suppress(FileNotFoundError, UnsafePathError):
                if name.endswith(".json") and not _is_over(folder, name, now):
                    yield _read(folder, name)


def boot() -> str:
    """Which start of the system this is; the same in all its containers."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return "unknown"


def _read(folder: Root, name: str) -> Leased | None:
    try:
        return parse_json(folder.read(name), Leased, where=str(folder.path / name))
    except (DocumentError, PermissionError):
        return None


def _is_over(folder: Root, name: str, now: float) -> bool:
    lease = _read(folder, name)
    found = folder.stat(name)
    if found is None or now - (found.st_mtime if lease is None else lease.since) > LONGEST_S:
        return True
    if lease is None or lease.boot != boot() or boot() == "unknown":
        return False
    handle = folder.handle(name, os.O_RDONLY)
    try:
        return _locked(handle) and _locks_work(folder, name)
    except OSError:
        return False
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locks_work(folder: Root, name: str) -> bool:
    """Whether a lock that is held keeps another out: asked of a file that is locked right now."""
    second = folder.handle(name, os.O_RDONLY)
    try:
        return not _locked(second)
    finally:
        os.close(second)


def _end(root: Path, name: str | None, handle: int, owner: int) -> None:
    if name is not None and os.getpid() == owner:  # a forked worker ends too, and its parent goes on
        with suppress(OSError, UnsafePathError), Root.at(root) as whole:
            whole.unlink(f"{FOLDER}/{name}")
    with suppress(OSError):
        os.close(handle)
