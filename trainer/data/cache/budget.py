"""The bound of a cache: processes with a limit count together what the cache holds, and write a byte only after it was counted.

    limit.json   the count: bytes of whole datasets and everything else, and bytes of each streamed version
    limit.lock   a shared lock of each process that streams: the first one measures the cache and corrects the count

A count may be too high, after a process was killed between counting and writing, never too low: the cache stays within its bound. A fetch
without a limit is not counted until the next measurement. Without working locks (some network shares) concurrent processes may exceed it.
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
"""Beginning of the name of a version's folder of chunks, which ends with the user: `streamed.u1000`."""
_BLOCK: Final = 4096
_ENTRY: Final = 256
"""Bytes of a file in its folder, at most, approximately."""
_LEAST: Final = 4 << 20
"""Bytes that leases, inspections and folders may need beyond what is counted."""


def cost(size: int) -> int:
    """Return the bytes that a file of this size takes on the disk.

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
    """What the cache holds, in bytes."""

    other: int = 0
    """Everything except the chunks of streamed versions."""
    streamed: dict[str, int] = field(default_factory=dict)
    """The chunks of each streamed version, by the folder's path below the cache."""

    @property
    def total(self) -> int:
        """All bytes."""
        return self.other + sum(self.streamed.values())

    def add(self, owner: str | None, size: int) -> None:
        """Count `size` more bytes, or less, for a streamed version or for everything else."""
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
        """The bytes that may be counted: what is small and not counted has room, too."""
        return self.limit - min(_LEAST, self.limit // 16)

    def join(self) -> int | None:
        """Count this process as a user of the cache, and return the descriptor that does; the first user measures the cache.

        `None` if the cache's lock cannot be opened.
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
        """Count this process as a user of the cache until the end of the block."""
        handle = self.join()
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def measure(self) -> None:
        """Correct the count by measuring the cache; temporary files of dead processes are removed."""
        with self.changed() as count:
            found = measure(self.root, cleans=True)
            count.other, count.streamed = found.other, found.streamed

    def reserve(self, owner: str | None, size: int) -> bool:
        """Count `size` more bytes for a streamed version, or for everything else; return whether the limit allows them."""
        with self.changed() as count:
            if count.total + size > self.usable:
                return False
            count.add(owner, size)
            return True

    def release(self, owner: str | None, size: int) -> None:
        """Count `size` bytes less."""
        with self.changed() as count:
            count.add(owner, -size)

    def count(self) -> Usage:
        """Return the count."""
        with self.changed() as count:
            return Usage(count.other, dict(count.streamed))

    @contextmanager
    def changed(self) -> Iterator[Usage]:
        """Open the count for a change. Each change opens the file: its lock then excludes threads, too. Do not fork meanwhile."""
        with Root.at(self.root, make=True) as root:
            handle = open_lock(root, COUNT)
        if handle is None:
            raise disk_fault(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), self.root / COUNT)
        try:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            before = os.pread(handle, 1 << 20, 0)
            count = self._parsed(before) or measure(self.root)
            yield count
            after = canonical(UsageDocument(other=count.other, streamed=count.streamed).model_dump())
            if after != before:
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
    """Return what a cache holds, as `du` counts it; `cleans` removes temporary files among the chunks of this user, of dead processes."""
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
