"""The chunks of a streamed version on disk: one file for each group of chunks, counted against the cache's limit.

    versions/<name>/<content>/streamed.u1000/cdef…       a chunk; each reader verifies it on each use
    versions/<name>/<content>/streamed.u1000/0123…-40-9  adjacent chunks: 9 bytes of a pack, from byte 40; each chunk is verified
    versions/<name>/<content>/streamed.u1000/.cdef…      a temporary file, or a file that is being removed

Files belong to one user, and only this user can evict them. A file gets its name by a hard link and loses it by a rename, which only one
process can do, so that each file is counted once. A file is truncated before it is unlinked, so that its space is free at once, even if
another process has it open; that process reads too few bytes, and fetches the chunk again.
"""

from __future__ import annotations

import errno
import os
import secrets
import weakref
from contextlib import suppress
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import UnsafePathError
from trainer.base.safe_folder import Root
from trainer.data.cache.budget import STREAMED, cost
from trainer.data.cache.locks import active_leases
from trainer.data.cache.objects import make_shared_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trainer.data.cache.budget import Budget
    from trainer.data.chunks import ChunkFile, ChunkGroup

_MOST_SPARE: Final = 1 << 20
"""Maximum number of bytes that are counted in advance; 1/64 of the limit if that is less."""
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links."""
_MOST_OPEN: Final = 64
"""Maximum number of files with several chunks that stay open."""
_LOOK_S: Final = 1.0
"""Minimum seconds between two readings of all leases."""


class ChunkFolder:
    """This user's chunks of a version. `version` is the path of the version's folder, relative to the cache."""

    def __init__(self, budget: Budget, version: str) -> None:
        self.budget, self.path = budget, f"{version}/{STREAMED}u{os.getuid()}"
        with disk_faults(budget.root / self.path):
            self._folder = make_shared_folder(budget.root, self.path)
        self._open: dict[str, int] = {}
        """Open files with several chunks, most recently read last. Eviction truncates a file, so that reading it returns too few bytes."""
        self._reading = Lock()
        weakref.finalize(self, _close_all, self._open)
        self._idle: list[str] = []
        self._looked = -_LOOK_S

    def names(self) -> set[str]:
        """Return the names of all files."""
        return {name for name in self._folder.names() if not name.startswith(".")}

    def has(self, file: ChunkFile) -> bool:
        """Return whether the file exists and has the expected size."""
        info = self._folder.stat(file.name)
        return info is not None and info.st_size == file.size

    def read(self, group: ChunkGroup, identifier: int) -> bytes | None:
        """Return a verified chunk of a group; `None` if it is missing, evicted or damaged. A damaged group is evicted."""
        chunk, first = group.find(identifier)
        try:
            body = self._bytes(group, first, chunk.size)
        except (OSError, UnsafePathError):
            return None
        if len(body) == chunk.size and digest_of_bytes(body) == chunk.sha256:
            return body
        if len(body) == chunk.size:
            self.evict([group])
        return None

    def _bytes(self, group: ChunkGroup, first: int, size: int) -> bytes:
        """Return `size` bytes of a group from byte `first`, or fewer if it was evicted. A file with several chunks stays open."""
        with self._reading:
            if (handle := self._open.pop(group.name, None)) is not None:
                if len(body := os.pread(handle, size, first)) == size:
                    self._open[group.name] = handle
                    return body
                os.close(handle)
            handle = self._folder.handle(group.name, os.O_RDONLY)
            if len(group.chunks) > 1:
                self._open[group.name] = handle
                if len(self._open) > _MOST_OPEN:
                    os.close(self._open.pop(next(iter(self._open))))
                return os.pread(handle, size, first)
        try:
            return os.pread(handle, size, first)
        finally:
            os.close(handle)

    def reserve(self, files: Sequence[ChunkFile]) -> bool:
        """Count files before they are written, if the limit allows them; return whether they were counted."""
        return self.budget.reserve(self.path, sum(each.cost for each in files))

    def write(self, target: ChunkFile, body: bytes, *, refund: Callable[[int], None] | None = None) -> None:
        """Write a file whose bytes are reserved. Raise `MachineError` if it cannot be written.

        Reserved bytes that are not needed are passed to `refund`; without `refund`, they are subtracted from the count.
        """
        temporary, back = f".{target.name}.{secrets.token_hex(8)}", refund or self._uncount
        try:
            with disk_faults(self._folder.path / target.name):
                handle = self._folder.handle(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o644)
                with os.fdopen(handle, "wb", buffering=0) as file:
                    rest = memoryview(body)
                    while rest:
                        rest = rest[file.write(rest) :]
                replaced = self._name(temporary, target)
        except BaseException:
            self._forget(temporary)
            back(target.cost)
            raise
        self._forget(temporary)
        if replaced:
            back(replaced * target.cost)

    def _name(self, temporary: str, target: ChunkFile) -> int:
        """Give a file its final name; return how many counted files of this name are superfluous.

        These are the damaged files that were removed, and `temporary` itself if another process has written the same file.
        """
        replaced = 0
        while True:
            try:
                self._folder.link(temporary, target.name, to=self._folder)
            except FileExistsError:
                if self.has(target):  # another process created the chunk first
                    return replaced + 1
                replaced += _remove(self._folder, target.name)  # damaged
                continue
            except FileNotFoundError:
                # another process has already evicted the new name, if the temporary file still exists
                if self._folder.stat(temporary) is None:
                    raise
            except OSError as fault:
                if fault.errno not in _NO_LINKS:
                    raise
                replaced += _remove(self._folder, target.name)
                self._folder.rename(temporary, target.name)
            return replaced

    def _forget(self, temporary: str) -> None:
        with suppress(OSError, UnsafePathError):
            self._folder.unlink(temporary, missing_ok=True)

    def remove(self, files: Iterable[ChunkFile]) -> int:
        """Remove the files that exist; return their bytes, which stay counted."""
        return sum(each.cost for each in files if _remove(self._folder, each.name))

    def evict(self, files: Iterable[ChunkFile]) -> None:
        """Remove the files that exist, and subtract their bytes from the count."""
        if freed := self.remove(files):
            self._uncount(freed)

    def _uncount(self, size: int) -> None:
        self.budget.release(self.path, size)

    def clear(self) -> None:
        """Evict all chunks, because the version is complete."""
        self._take_from(self.path)

    def take_room(self, files: Sequence[ChunkFile]) -> bool:
        """Evict chunks of another version of this user to make room for `files`; return whether any chunk was evicted.

        Versions that no process uses come first. If this version has less than an equal share of the streamed bytes, the surplus of a
        version with more than that share comes next.
        """
        need = sum(each.cost for each in files)
        if self.take_idle(need):
            return True
        count = self.budget.count().streamed
        share = sum(count.values()) // len({*count, self.path})
        if count.pop(self.path, 0) >= share:
            return False
        return any(
            self._take_from(path, min(need, count[path] - share)) for path in _of_user(count) if count[path] > share
        )

    def take_idle(self, need: int) -> bool:
        """Evict up to `need` bytes of a version of this user that no process uses; return whether any chunk was evicted."""
        if monotonic() - self._looked >= _LOOK_S:
            leases = list(active_leases(self.budget.root, now=time()))
            leased = {f"{each.name}/{each.content.removeprefix('sha256:')}" for each in leases if each}
            others = [path for path in _of_user(self.budget.count().streamed) if path != self.path]
            idle = [path for path in others if "/".join(path.split("/")[1:3]) not in leased]
            self._idle, self._looked = [] if None in leases else idle, monotonic()
        return any(self._take_from(path, need) for path in self._idle)

    def take_any(self, need: int) -> bool:
        """Evict up to `need` bytes of a version of this user, even if it is in use; return whether any chunk was evicted."""
        return any(self._take_from(path, need) for path in _of_user(self.budget.count().streamed))

    def _take_from(self, path: str, need: int | None = None) -> bool:
        """Evict chunks of a version until `need` bytes are free, or all chunks without `need`; return whether any chunk was evicted."""
        freed = 0
        with (
            suppress(OSError, UnsafePathError),
            Root.at(self.budget.root) as root,
            root.below(path) as folder,
            self.budget.changed() as count,
        ):
            for name in folder.names():
                info = folder.stat(name)
                if info is not None and not name.startswith(".") and _remove(folder, name):
                    count.add(path, -cost(info.st_size))
                    freed += cost(info.st_size)
                if need is not None and freed >= need:
                    break
        return freed > 0


class Grant:
    """Bytes that a process counts in advance for a version, so that its threads need not open the count for each chunk."""

    def __init__(self, folder: ChunkFolder) -> None:
        """Start without counted bytes."""
        self._folder = folder
        self.spare = min(_MOST_SPARE, folder.budget.limit // 64)
        """Bytes to count in advance."""
        self._left, self._lock = 0, Lock()

    def take(self, size: int) -> bool:
        """Take `size` counted bytes for chunks that are then written; return whether the limit allows them."""
        with self._lock:
            need = size - self._left
            if need <= 0:
                self._left -= size
                return True
            for more in (need + self.spare, need):
                if self._folder.budget.reserve(self._folder.path, more):
                    self._left += more - size
                    return True
            return False

    def put(self, size: int) -> None:
        """Give back `size` counted bytes that are unused or no longer used."""
        with self._lock:
            self._left += size
            if self._left > 4 * self.spare:
                self._folder.budget.release(self._folder.path, self._left - self.spare)
                self._left = self.spare

    def close(self) -> None:
        """Subtract the unused bytes from the count."""
        with self._lock:
            if self._left:
                self._folder.budget.release(self._folder.path, self._left)
            self._left = 0


def _close_all(handles: dict[str, int]) -> None:
    for handle in handles.values():
        with suppress(OSError):
            os.close(handle)


def _of_user(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.endswith(f"/{STREAMED}u{os.getuid()}")]


def _remove(folder: Root, name: str) -> bool:
    """Truncate and unlink a file of this user; return whether this call removed it."""
    away = f".{name}.{secrets.token_hex(8)}"
    try:
        folder.rename(name, away)
    except (OSError, UnsafePathError):
        return False
    with suppress(OSError, UnsafePathError):
        handle = folder.handle(away, os.O_WRONLY)
        try:
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)
    with suppress(OSError, UnsafePathError):
        folder.unlink(away)
    return True
