"""The cache's objects: verified packs and assembled large files, named by what they contain, shared by datasets, versions and users.

    objects/ab/cdef…               a whole pack, or a large file put together from its parts; read-only
    objects/ab/cdef…-0123…         of a pack that is mostly not needed, the ranges that are, at their places: the rest is a hole
    objects/ab/….u1000             the same, made by user 1000 in place of another user's that was found damaged
    objects/ab/.cdef….1000-*       on its way

Knows how an object gets its name: written beside it, flushed to the disk, renamed, the folder flushed. Refuses to
verify: who writes knows the digest, and who reads.
In a sticky folder nobody can replace another's file, so a user's own replacement has a name of its own and goes before the shared one.
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
_TURN: Final = 256 << 10
_POLL_S: Final = 0.005
_PATIENCE_S: Final = 1.0
"""For how long another process may be making a folder, which takes microseconds, until it is taken for dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects of the cache below `root`."""

    root: Path

    def has(self, sizes: Mapping[str, int]) -> bool:
        """Whether all of these objects are here with these sizes. What their bytes say is verified by who reads them."""
        try:
            with Root.at(self.root) as root, root.below(FOLDER) as objects:
                return all(_named(objects, name, size) for name, size in sizes.items())
        except FileNotFoundError:
            return not sizes

    def open(self, name: str, size: int) -> BinaryIO | None:
        """The object, this user's own before the shared one, if it has this size; None also if a link has its name: it is fetched again."""
        with suppress(FileNotFoundError), Root.at(self.root) as root, root.below(FOLDER) as objects:
            if path := _named(objects, name, size):
                with suppress(UnsafePathError, OSError):
                    return objects.open(path)
        return None

    def link(self, name: str, size: int, *, to: Root, new: str) -> None:
        """Give an object a second name, `new` in `to`. Raises `OSError` where that cannot be done."""
        with Root.at(self.root) as root, root.below(FOLDER) as objects:
            if (path := _named(objects, name, size)) is None:
                raise FileNotFoundError(name)
            objects.link(path, new, to=to)

    def shelf(self, name: str) -> Root:
        """Hold the folder of an object, made as open as the cache is. Raises `OSError`."""
        return shared(self.root, f"{FOLDER}/{name[:2]}")

    def incoming(self, name: str) -> Incoming:
        """A new object on its way."""
        with disk_faults(self.root / FOLDER / name[:2] / name[2:]):
            return Incoming(self, name)

    def clear(self, name: str, *, but: str = "", read: Callable[[BinaryIO], None] = lambda _: None) -> None:
        """Remove what interrupted fetches of this user left of an object, once `read` has seen it; what is no file is not read."""
        with suppress(FileNotFoundError), self.shelf(name) as shelf:
            for left in shelf.names():
                if not left.startswith(f".{name[2:]}.{os.getuid()}-") or left == but:
                    continue
                with suppress(UnsafePathError, FileNotFoundError), shelf.open(left) as file:
                    read(file)
                with suppress(PermissionError):  # another user's, under a name of this one's
                    shelf.unlink(left, missing_ok=True)


class Incoming:
    """An object on its way: bytes come in any order, from several threads; it has no name until `settle`."""

    def __init__(self, objects: Objects, name: str) -> None:
        """Begin with no bytes. Raises `OSError`."""
        self._objects, self._name, self._shelf = objects, name, objects.shelf(name)
        self._place = self._shelf.path / name[2:]
        self.temporary = f".{name[2:]}.{os.getuid()}-{secrets.token_hex(8)}"
        try:
            self._handle = self._shelf.handle(self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
        except BaseException:
            self._shelf.close()
            raise

    def write(self, at: int, block: bytes | memoryview) -> None:
        """Put bytes in their place."""
        left = memoryview(block)
        with disk_faults(self._place):
            while left:
                done = os.pwrite(self._handle, left, at)
                at, left = at + done, left[done:]

    def read(self, at: int, length: int) -> Iterator[memoryview]:
        """The bytes that were written, in blocks; each is gone when the next one comes: one small buffer, hot in a core's cache."""
        end, buffer = at + length, memoryview(bytearray(_TURN))
        while at < end and (size := os.preadv(self._handle, [buffer[: end - at]], at)):
            yield buffer[:size]
            at += size

    def flush(self) -> None:
        """Have what was written on the disk itself, while other threads still fetch."""
        with disk_faults(self._place):
            os.fsync(self._handle)

    def settle(self, size: int) -> None:
        """Give the object its name, once it is on the disk itself. Raises `MachineError` and its kinds."""
        with disk_faults(self._place):
            os.ftruncate(self._handle, size)
            os.fchmod(self._handle, 0o444)
            os.fsync(self._handle)
            try:
                settle(self._shelf, self.temporary, self._name[2:])
            except (
                FileNotFoundError
            ):  # another process took this one for dead: write the bytes, which have no name any more, again
                again = Incoming(self._objects, self._name)
                at = 0
                for block in self.read(0, size):
                    again.write(at, block)
                    at += len(block)
                again.settle(size)
            self._shelf.flush()
            self.leave()

    def discard(self) -> None:
        """Remove it, if it has no name yet."""
        if self._handle >= 0:
            self._shelf.unlink(self.temporary, missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let it lie as it is, for the next fetch to salvage."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            self._shelf.close()
            with suppress(OSError):
                os.close(handle)


def own(name: str) -> str:
    """This user's own file in place of a shared one that it may not replace."""
    return f"{name}.u{os.getuid()}"


def settle(folder: Root, temporary: str, name: str) -> None:
    """Rename a finished file into place; if another user's stands there, beside it, under a name of this user's own."""
    try:
        folder.rename(temporary, name)
    except PermissionError:
        folder.rename(temporary, own(name))


def shared(root: Path, path: str) -> Root:
    """Hold a folder below `root`, made as open as `root` is, whatever the umask, as those above it are; what is there keeps its mode."""
    with Root.at(root, make=True) as whole:
        mode, parts = stat.S_IMODE(os.fstat(whole.fileno()).st_mode), path.split("/")
        for depth in range(1, len(parts) + 1):
            _make_open(whole, "/".join(parts[:depth]), mode)
        return whole.below(path)


def _make_open(root: Root, folder: str, mode: int) -> None:
    """Make a folder that has its mode when it has its name: another user may be about to write into it.

    It is made under a name by which all who would make it meet, so that none is renamed over one in which somebody has begun to write.
    """
    above, _, name = folder.rpartition("/")
    new = f"{above}/.new-{name}" if above else f".new-{name}"
    patient_until = monotonic() + _PATIENCE_S
    while root.stat(folder) is None:  # what is there and no folder is named by who enters it
        try:
            root.mkdir(new)
        except FileExistsError:
            if monotonic() < patient_until:
                sleep(_POLL_S)
                continue  # else whoever made it has died: it is taken over
        with suppress(FileNotFoundError):  # another took it over sooner
            if root.stat(folder) is not None:
                root.rmdir(new)
            else:
                root.chmod(new, mode)
                root.rename(new, folder)


def _named(objects: Root, name: str, size: int) -> str | None:
    """Where there is a file of this size for an object."""
    with suppress(FileNotFoundError), objects.below(name[:2]) as shelf:
        for each in (own(name[2:]), name[2:]):
            found = shelf.stat(each)
            if found is not None and found.st_size == size and stat.S_ISREG(found.st_mode):
                return f"{name[:2]}/{each}"
    return None
