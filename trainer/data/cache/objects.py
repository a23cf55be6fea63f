"""The cache's objects: verified packs and assembled large files, shared by datasets, versions and users.

    objects/ab/cdef…               a whole pack, or an assembled large file; read-only
    objects/ab/cdef…-0123…         the needed ranges of a pack at their offsets; the rest is a hole
    objects/ab/….u1000             a replacement by user 1000 for another user's damaged object
    objects/ab/.cdef….1000-*       a temporary file of user 1000

An object is written to a temporary file, flushed to disk and renamed; then the folder is flushed. Writers and readers verify digests; this
module does not. In a sticky folder a user cannot replace another user's file, so a replacement has its own name and is preferred.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import UnsafePathError
from trainer.base.safe_folder import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

FOLDER: Final = "objects"
_BLOCK: Final = 256 << 10
_POLL_S: Final = 0.005
_PATIENCE_S: Final = 1.0
"""Seconds after which a process that creates a folder counts as dead; creating it takes microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects of the cache below `root`."""

    root: Path

    def has(self, sizes: Mapping[str, int]) -> bool:
        """Return whether all objects exist with the given sizes; readers verify their bytes."""
        try:
            with Root.at(self.root) as root, root.below(FOLDER) as objects:
                return all(_find(objects, name, size) for name, size in sizes.items())
        except FileNotFoundError:
            return not sizes

    def open(self, name: str, size: int) -> BinaryIO | None:
        """Open an object, preferring this user's own file; `None` if no regular file with `size` bytes exists or can be opened."""
        with suppress(FileNotFoundError), Root.at(self.root) as root, root.below(FOLDER) as objects:
            if path := _find(objects, name, size):
                with suppress(UnsafePathError, OSError):
                    return objects.open(path)
        return None

    def link(self, name: str, size: int, *, to: Root, new: str) -> None:
        """Create the hard link `new` in the folder `to`. Raise `OSError` if the object is missing or cannot be linked."""
        with Root.at(self.root) as root, root.below(FOLDER) as objects:
            if (path := _find(objects, name, size)) is None:
                raise FileNotFoundError(name)
            objects.link(path, new, to=to)

    def shelf(self, name: str) -> Root:
        """Open or create the folder of an object, with the mode of the cache. Raise `OSError` if neither is possible."""
        return make_shared_folder(self.root, f"{FOLDER}/{name[:2]}")

    def clear(self, name: str, *, but: str = "", read: Callable[[BinaryIO], None] = lambda _: None) -> None:
        """Remove this user's temporary files of an object, except `but`; `read` is called with each regular file first."""
        with suppress(FileNotFoundError), self.shelf(name) as shelf:
            for leftover in shelf.names():
                if not leftover.startswith(f".{name[2:]}.{os.getuid()}-") or leftover == but:
                    continue
                with suppress(UnsafePathError, FileNotFoundError), shelf.open(leftover) as file:
                    read(file)
                with suppress(PermissionError):  # another user's file, named like a temporary file of this user
                    shelf.unlink(leftover, missing_ok=True)


class Incoming:
    """An object that several threads write in any order; `settle` gives it its name."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects, self._name, self._place = objects, name, objects.root / FOLDER / name[:2] / name[2:]
        self.temporary = f".{name[2:]}.{os.getuid()}-{secrets.token_hex(8)}"
        with disk_faults(self._place):
            self._shelf = objects.shelf(name)
            try:
                self._handle = self._shelf.handle(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
            except BaseException:
                self._shelf.close()
                raise

    def write(self, at: int, block: bytes | memoryview) -> None:
        """Write bytes at an offset."""
        rest = memoryview(block)
        with disk_faults(self._place):
            while rest:
                done = os.pwrite(self._handle, rest, at)
                at, rest = at + done, rest[done:]

    def read(self, at: int, length: int) -> Iterator[memoryview]:
        """Yield written bytes in blocks. All blocks share a buffer, so a block is valid only until the next block."""
        end, buffer = at + length, memoryview(bytearray(_BLOCK))
        while at < end and (size := os.preadv(self._handle, [buffer[: end - at]], at)):
            yield buffer[:size]
            at += size

    def flush(self) -> None:
        """Flush written bytes to disk; other threads may write meanwhile."""
        with disk_faults(self._place):
            os.fsync(self._handle)

    def settle(self, size: int) -> None:
        """Truncate the object to `size`, flush it to disk and give it its name. Raise `MachineError` if this fails."""
        with disk_faults(self._place):
            os.ftruncate(self._handle, size)
            os.fchmod(self._handle, 0o444)
            os.fsync(self._handle)
            try:
                settle(self._shelf, self.temporary, self._name[2:])
            except FileNotFoundError:  # another process removed the temporary file: copy the bytes to a new file
                again = Incoming(self._objects, self._name)
                at = 0
                for block in self.read(0, size):
                    again.write(at, block)
                    at += len(block)
                again.settle(size)
            self._shelf.flush()
            self.leave()

    def discard(self) -> None:
        """Remove and close the temporary file, unless `settle` or `leave` has closed it."""
        if self._handle >= 0:
            self._shelf.unlink(self.temporary, missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Close the temporary file and keep it for the next fetch."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            self._shelf.close()
            with suppress(OSError):
                os.close(handle)


def own_name(name: str) -> str:
    """Return the name of this user's own file, which replaces another user's shared file."""
    return f"{name}.u{os.getuid()}"


def settle(folder: Root, temporary: str, name: str) -> None:
    """Rename a complete file to `name`, or to this user's own name if another user's file has that name."""
    try:
        folder.rename(temporary, name)
    except PermissionError:
        folder.rename(temporary, own_name(name))


def make_shared_folder(root: Path, path: str) -> Root:
    """Open a folder below `root`; missing folders are created with the mode of `root`, regardless of the umask."""
    with Root.at(root, make=True) as whole:
        mode, parts = stat.S_IMODE(os.fstat(whole.fileno()).st_mode), path.split("/")
        for depth in range(1, len(parts) + 1):
            _make_open(whole, "/".join(parts[:depth]), mode)
        return whole.below(path)


def _make_open(root: Root, folder: str, mode: int) -> None:
    """Create a folder that has its mode before it has its name, because another user may write into it at once.

    All processes use the same temporary name, so that no process renames its folder over a folder in use.
    """
    above, _, name = folder.rpartition("/")
    new = f"{above}/.new-{name}" if above else f".new-{name}"
    patient_until = monotonic() + _PATIENCE_S
    while root.stat(folder) is None:
        try:
            root.mkdir(new)
        except FileExistsError:
            if monotonic() < patient_until:
                sleep(_POLL_S)
                continue  # after that, the process that created it counts as dead
        with suppress(FileNotFoundError):  # another process did this first
            if root.stat(folder) is not None:
                root.rmdir(new)
            else:
                root.chmod(new, mode)
                root.rename(new, folder)


def _find(objects: Root, name: str, size: int) -> str | None:
    """Return the path, in `objects`, of an object's regular file with `size` bytes, preferring this user's own; `None` if none exists."""
    with suppress(FileNotFoundError), objects.below(name[:2]) as shelf:
        for each in (own_name(name[2:]), name[2:]):
            info = shelf.stat(each)
            if info is not None and info.st_size == size and stat.S_ISREG(info.st_mode):
                return f"{name[:2]}/{each}"
    return None
