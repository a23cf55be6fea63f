"""The chunks of a streamed version on the disk: one file for each, named by its digest, counted by the cache's bound.

    versions/<name>/<content>/streamed.u1000/cdef…   a chunk; each reader verifies it at each use
    versions/<name>/<content>/streamed.u1000/.cdef…  a temporary file

Chunks belong to one user, who alone can evict them. A chunk is truncated before it is unlinked, so that its space is free at once, even if
another process has it open; that process finds it too short, and fetches it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
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
    from collections.abc import Iterable

    from trainer.data.cache.budget import Budget
    from trainer.data.chunks import Chunk

_LOOK_S: Final = 1.0
"""Seconds between two readings of all leases."""


class ChunkFolder:
    """The folder of this user's chunks of a version, whose folder is at `version` below the cache."""

    def __init__(self, budget: Budget, version: str) -> None:
        self.budget, self.path = budget, f"{version}/{STREAMED}u{os.getuid()}"
        with disk_faults(budget.root / self.path):
            self._folder = make_shared_folder(budget.root, self.path)
        self._looked = -_LOOK_S

    def names(self) -> set[str]:
        """Return the names of all chunks."""
        return {name for name in self._folder.names() if not name.startswith(".")}

    def has(self, name: str, size: int) -> bool:
        """Return whether a chunk is there with this size."""
        info = self._folder.stat(name)
        return info is not None and info.st_size == size

    def read(self, chunk: Chunk) -> bytes | None:
        """Return a verified chunk; `None` if it is missing, or was damaged or evicted."""
        try:
            with self._folder.open(chunk.name) as file:
                body = file.read(chunk.size + 1)
        except (OSError, UnsafePathError):
            return None
        if len(body) == chunk.size and digest_of_bytes(body) == chunk.sha256:
            return body
        if len(body) == chunk.size:
            self.evict(chunk.name, chunk.size)
        return None

    def reserve(self, size: int) -> bool:
        """Count a chunk of this size before it is written; return whether the limit allows it."""
        return self.budget.reserve(self.path, cost(size))

    def release(self, size: int) -> None:
        """Count a chunk less that was reserved and not written."""
        self.budget.release(self.path, cost(size))

    def write(self, chunk: Chunk, body: bytes) -> None:
        """Write a verified chunk, for which room is reserved. Raises `MachineError`; the room is then free again."""
        temporary = f".{chunk.name}.{secrets.token_hex(8)}"
        try:
            with disk_faults(self._folder.path / chunk.name):
                handle = self._folder.handle(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o644)
                with os.fdopen(handle, "wb", buffering=0) as file:
                    rest = memoryview(body)
                    while rest:
                        rest = rest[file.write(rest) :]
                if self.has(chunk.name, chunk.size):  # another process was faster
                    self.release(chunk.size)
                self._folder.rename(temporary, chunk.name)
        except BaseException:
            with suppress(OSError, UnsafePathError):
                self._folder.unlink(temporary, missing_ok=True)
            self.release(chunk.size)
            raise

    def evict(self, name: str, size: int) -> None:
        """Remove a chunk of this size, if it is there."""
        if _remove(self._folder, name):
            self.release(size)

    def clear(self) -> None:
        """Evict all chunks: the version is complete."""
        self._take_from(self.path, many=None)

    def take_room(self) -> bool:
        """Evict some chunks of another version of this user: one that no process uses, or has more than its share; return whether any."""
        count = self.budget.count().streamed
        share = sum(count.values()) // len({*count, self.path})
        own = count.pop(self.path, 0)
        if any(self._take_from(path) for path in self._of_user(count) if count[path] > share > own):
            return True
        if not count or monotonic() - self._looked < _LOOK_S:
            return False
        self._looked = monotonic()
        return self.take_idle()

    def take_idle(self) -> bool:
        """Evict all chunks of this user's versions that no process uses; return whether there were any."""
        leases = list(active_leases(self.budget.root, now=time()))
        leased = {f"{each.name}/{each.content.removeprefix('sha256:')}" for each in leases if each}
        others = [path for path in self._of_user(self.budget.count().streamed) if path != self.path]
        idle = [] if None in leases else [path for path in others if "/".join(path.split("/")[1:3]) not in leased]
        return sum(self._take_from(path, many=None) for path in idle) > 0

    def _of_user(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if path.endswith(f"/{STREAMED}u{os.getuid()}")]

    def _take_from(self, path: str, many: int | None = 8) -> bool:
        taken = 0
        with suppress(OSError, UnsafePathError), Root.at(self.budget.root) as root, root.below(path) as folder:
            for name in folder.names()[:many]:
                info = folder.stat(name)
                if info is not None and not name.startswith(".") and _remove(folder, name):
                    self.budget.release(path, cost(info.st_size))
                    taken += 1
        return taken > 0


def _remove(folder: Root, name: str) -> bool:
    """Truncate and unlink a file of this user; return whether this call did it."""
    try:
        handle = folder.handle(name, os.O_WRONLY)
    except (OSError, UnsafePathError):
        return False
    try:
        with suppress(OSError):
            os.ftruncate(handle, 0)
        folder.unlink(name)
    except (OSError, UnsafePathError):
        return False
    finally:
        os.close(handle)
    return True
