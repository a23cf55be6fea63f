"""The size limit of a cache: processes with a limit share a count of the cached bytes, and count bytes before they write them.

    limit.json   the count: bytes of each streamed version, and bytes of everything else
    limit.lock   each process that uses the cache with a limit holds a shared lock; the first process measures the cache

The count may be too high, if a process was killed between counting and writing, but never too low, so the cache stays within its limit.
A fetch without a limit is not counted until the next measurement. Without working locks (on some network shares), concurrent processes may
exceed the limit.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical
from trainer.base.disk_errors import disk_fault
from trainer.base.document import Count, Document, parse_json
from trainer.base.errors import DocumentError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.data.cache.locks import open_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT: Final = "limit.json"
LOCK: Final = "limit.lock"
STREAMED: Final = "streamed."
"""Prefix of the name of a version's folder of chunks, which ends with the user: `streamed.u1000`."""
_BLOCK: Final = 4096
_ENTRY: Final = 256
"""Bytes of a file's entry in its folder, an approximate upper bound."""
_UNCOUNTED: Final = 4 << 20
"""Bytes of the limit reserved for leases, inspections and folders, which processes write without counting them."""


def cost(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes on disk.

    >>> cost(1), cost(8192)
    (4352, 8448)
    """
    return -(-size // _BLOCK) * _BLOCK + _ENTRY


class UsageDocument(Document):
    """The contents of `limit.json`."""

    format: Literal["reprise.limit/1"] = "reprise.limit/1"
    other: Count
    streamed: dict[str, Count]


@dataclass(slots=True)
class Usage:
    """The bytes that the cache holds."""

    other: int = 0
    """Everything except the chunks of streamed versions."""
    streamed: dict[str, int] = field(default_factory=dict)
    """The chunks of each streamed version, by the folder's path below the cache."""

    @property
    def total(self) -> int:
        """All bytes."""
        return self.other + sum(self.streamed.values())

    def add(self, owner: str | None, size: int) -> None:
        """Add `size`, which may be negative, to the count of the streamed version `owner`, or to `other` if `owner` is `None`."""
        if owner is None:
            self.other = max(0, self.other + size)
            return
        self.streamed[owner] = max(0, self.streamed.get(owner, 0) + size)
        if not self.streamed[owner]:
            del self.streamed[owner]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The bound `limit`, in bytes, of the cache in the folder `root`."""

    root: Path
    limit: int

    @property
    def usable(self) -> int:
        """The bytes that may be counted: the limit less a reserve for small files that are not counted."""
        return self.limit - min(_UNCOUNTED, self.limit // 16)

    def join(self) -> int | None:
        """Register this process as a user of the cache until the returned descriptor is closed; the first user measures the cache.

        Return `None` if the cache's lock cannot be opened.
        """
        with Root.at(self.root, make=True) as root:
            handle = open_lock(root, LOCK)
        if handle is None:
            return None
        with suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.measure()
            except BlockingIOError:
                pass
            fcntl.flock(handle, fcntl.LOCK_SH)
        return handle

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Register this process as a user of the cache until the end of the block."""
        handle = self.join()
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def measure(self) -> None:
        """Measure the cache and correct the count. This user's temporary chunk files are removed, so no process may be streaming."""
        with self.changed() as count:
            found = measure(self.root, cleans=True)
            count.other, count.streamed = found.other, found.streamed

    def reserve(self, owner: str | None, size: int) -> bool:
        """Count `size` more bytes for the streamed version `owner` if the limit allows them; return whether they were counted.

        If `owner` is `None`, the bytes are counted as `other`.
        """
        with self.changed() as count:
            if count.total + size > self.usable:
                return False
            count.add(owner, size)
            return True

    def release(self, owner: str | None, size: int) -> None:
        """Subtract `size` bytes from the count."""
        with self.changed() as count:
            count.add(owner, -size)

    def count(self) -> Usage:
        """Return the count."""
        with self.changed() as count:
            return count

    @contextmanager
    def changed(self) -> Iterator[Usage]:
        """Yield the count under a lock, and write it if the block changed it. Do not fork in the block.

        Each call opens the file again, so that its lock also excludes other threads. Raise `MachineError` if the file cannot be opened
        or written.
        """
        with Root.at(self.root, make=True) as root:
            handle = open_lock(root, COUNT)
        if handle is None:
            raise disk_fault(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), self.root / COUNT)
        try:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            stored = self._parsed(os.pread(handle, 1 << 20, 0))
            count = measure(self.root) if stored is None else Usage(stored.other, dict(stored.streamed))
            yield count
            if count != stored:
                after = canonical(UsageDocument(other=count.other, streamed=count.streamed).model_dump())
                with disk_faults(self.root / COUNT):
                    os.pwrite(handle, after, 0)
                    os.ftruncate(handle, len(after))
        finally:
            os.close(handle)

    def _parsed(self, text: bytes) -> Usage | None:
        """Return the count in a file; `None` if the file is new or damaged."""
        with suppress(DocumentError):
            found = parse_json(text, UsageDocument, where=str(self.root / COUNT))
            return Usage(found.other, dict(found.streamed))
        return None


def measure(root: Path, *, cleans: bool = False) -> Usage:
    """Measure a cache: chunks as `cost` counts them, everything else as `du` does.

    `cleans` removes this user's temporary chunk files, so no process may be streaming.
    """
    count, seen = Usage(), set()
    own = f"{STREAMED}u{os.getuid()}"
    with Root.at(root) as whole:
        count.other = os.fstat(whole.fileno()).st_blocks * 512
        for path, info in whole.walk():
            folder, _, name = path.rpartition("/")
            above = folder.rpartition("/")[2]
            if cleans and above == own and name.startswith("."):
                with suppress(OSError, UnsafePathError):
                    whole.unlink(path)
            elif above.startswith(STREAMED) and stat.S_ISREG(info.st_mode):
                count.streamed[folder] = count.streamed.get(folder, 0) + cost(info.st_size)
            elif info.st_nlink == 1 or stat.S_ISDIR(info.st_mode) or (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                count.other += info.st_blocks * 512
    return count
