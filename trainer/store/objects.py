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
from typing import TYPE_CHECKING, Final

from trainer.host.atomic import disk_faults, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
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

    def place(self, name: str) -> Path:
        """Where everybody looks for an object."""
        return self.root / FOLDER / name[:2] / name[2:]

    def find(self, name: str, size: int) -> Path | None:
        """The object, this user's own before the shared one, if it has this size. What its bytes say is verified by who reads it."""
        for path in (own(self.place(name)), self.place(name)):
            with suppress(OSError):
                found = path.stat()
                if found.st_size == size and stat.S_ISREG(found.st_mode):
                    return path
        return None

    def incoming(self, name: str) -> Incoming:
        """A new object on its way; its folder is made as open as the cache."""
        place = self.place(name)
        with disk_faults(place):
            make_shared(place.parent, root=self.root)
            return Incoming(place)

    def leftovers(self, name: str) -> Iterator[Path]:
        """What interrupted fetches of this user have of an object."""
        place = self.place(name)
        return place.parent.glob(f".{place.name}.{os.getuid()}-*")


class Incoming:
    """An object on its way: bytes come in any order, from several threads; it has no name until `settle`."""

    def __init__(self, place: Path) -> None:
        """Begin with no bytes. Raises `OSError`."""
        self._place = place
        self.path = place.with_name(f".{place.name}.{os.getuid()}-{secrets.token_hex(8)}")
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

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
                settle(self.path, self._place)
            except (
                FileNotFoundError
            ):  # another process took this one for dead: write the bytes, which have no name any more, again
                again = Incoming(self._place)
                at = 0
                for block in self.read(0, size):
                    again.write(at, block)
                    at += len(block)
                again.settle(size)
            sync_folder(self._place.parent)
            self.leave()

    def discard(self) -> None:
        """Remove it, if it has no name yet."""
        self.leave()
        self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let it lie as it is, for the next fetch to salvage."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with suppress(OSError):
                os.close(handle)


def own(place: Path) -> Path:
    """This user's own file in place of a shared one that it may not replace."""
    return place.with_name(f"{place.name}.u{os.getuid()}")


def settle(temporary: Path, place: Path) -> None:
    """Rename a finished file into place; if another user's stands there, beside it, under a name of this user's own."""
    try:
        temporary.rename(place)
    except PermissionError:
        temporary.rename(own(place))


def make_shared(folder: Path, *, root: Path) -> None:
    """Make a folder below `root`, and those above it, as open as `root` is, whatever the umask; those that are there keep their mode."""
    root.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(root.stat().st_mode)
    for each in [*reversed(folder.relative_to(root).parents), folder.relative_to(root)][1:]:
        _make_open(root / each, mode)


def _make_open(folder: Path, mode: int) -> None:
    """Make a folder that has its mode when it has its name: another user may be about to write into it.

    It is made under a name by which all who would make it meet, so that none is renamed over one in which somebody has begun to write.
    """
    new = folder.with_name(f".new-{folder.name}")
    patient_until = monotonic() + _PATIENCE_S
    while not folder.is_dir():
        try:
            new.mkdir()
        except FileExistsError:
            if monotonic() < patient_until:
                sleep(_POLL_S)
                continue  # else whoever made it has died: it is taken over
        with suppress(FileNotFoundError):  # another took it over sooner
            if folder.is_dir():
                new.rmdir()
            else:
                new.chmod(mode)
                new.rename(folder)
