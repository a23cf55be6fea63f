"""Files and folders below a root: a runs folder, a run, the cache. Each folder is opened from its parent; links are not followed.

Links in the root's own path are followed, because the user typed it. The content below it may be from another user of a shared cache,
or from code in a container that can write to `runs/`. A link, a pipe, a socket or a device in place of a file or a folder raises
`UnsafePathError`; so does a path that leaves the root. Other faults stay an `OSError`, which names the whole path.

A file that is written must belong to this user, to root or to the root folder's owner. A root folder that is writable for its group or
for all users is shared: files of other owners below it may be written to. docs/security.md describes the guarantees and their limits.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from trainer.base import no_follow
from trainer.base.disk_errors import disk_fault, shown
from trainer.base.errors import UnsafePathError
from trainer.base.paths import path_fault
from trainer.base.plain_text import LARGEST, read_open

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap
    from pathlib import Path

PARTIAL: Final = ".partial"
"""Suffix of the names of incomplete files."""
_OPEN_TO_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class Root:
    """An open folder, and the entries below it. Close it, or use it in a `with`."""

    __slots__ = ("_handle", "_owners", "path")

    def __init__(self, path: Path, handle: int, owners: frozenset[int] | None) -> None:
        """Take ownership of a folder's descriptor. Only files of `owners` may be written to; `None` permits all owners."""
        self.path, self._handle, self._owners = path, handle, owners

    @classmethod
    def at(cls, path: Path, *, make: bool = False) -> Self:
        """Open the folder at `path`; `make` creates it and its parents if missing. Raise `OSError` if it cannot be opened."""
        if make:
            path.mkdir(parents=True, exist_ok=True)
        return cls(path, *_with_owners(os.open(path, no_follow.FOLDER_FLAGS)))

    def as_root(self) -> Self:
        """Return the same folder as a separate root, whose owner is trusted below it."""
        return type(self)(self.path, *_with_owners(os.dup(self._handle)))

    def below(self, path: str, *, make: bool = False) -> Self:
        """Open a folder below this folder; `make` creates missing folders."""
        return type(self)(self.path / path, self._entered(self._parts(path), make=make), self._owners)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the folder's descriptor, for a system call that has no method here."""
        return self._handle

    def close(self) -> None:
        """Close the folder."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def stat(self, path: str) -> os.stat_result | None:
        """Return the status of an entry, without following a link; None if there is no entry."""
        try:
            with self.parent_of(path) as (folder, name):
                return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def has_folder(self, path: str) -> bool:
        """Return whether a folder has this name; a link to a folder does not count."""
        found = self.stat(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def has_file(self, path: str) -> bool:
        """Return whether a regular file has this name; a link to a file does not count."""
        found = self.stat(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def names(self) -> list[str]:
        """Return the names in this folder, sorted; names that are not valid paths in Reprise, e.g. with a line break, are omitted."""
        try:
            found = os.listdir(self._handle)  # noqa: PTH208 - of a descriptor
        except OSError as fault:
            _name_path(fault, self.path)
            raise
        return sorted(name for name in found if path_fault(name) is None)

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield all entries below, a folder before its content. Folders that this user cannot list are skipped, as in `os.walk`."""
        waiting = [""]
        while waiting:
            found = list(self._listed(waiting.pop()))
            yield from found
            waiting.extend(path for path, about in reversed(found) if stat.S_ISDIR(about.st_mode))

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading. It never blocks on a pipe."""
        return os.fdopen(self.handle(path, os.O_RDONLY), "rb")

    def read(self, path: str, *, most: int = LARGEST) -> bytes:
        """Return the bytes of a regular file. Raise `DocumentError` if there are more than `most`."""
        with FileIO(self.handle(path, os.O_RDONLY)) as file:
            return read_open(file, self.path / path, most=most)

    def create(self, path: str, *, mode: int = 0o666, make: bool = False) -> BinaryIO:
        """Create a new file; `make` creates its parent folders. Raise `FileExistsError` if the name exists."""
        above = path.rpartition("/")[0]
        if make and above:
            self.below(above, make=True).close()
        return os.fdopen(self.handle(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=mode), "w+b")

    def append(self, path: str) -> BinaryIO:
        """Open a file for appending, and create it if missing."""
        return os.fdopen(self.handle(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")

    def handle(self, path: str, flags: int, *, mode: int = 0o666) -> int:
        """Open a regular file and return its descriptor.

        An existing file that is opened for writing must have a single hard link and a trusted owner.
        """
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        with self.parent_of(path, writes=writes) as (folder, name):
            found = no_follow.open_file(folder, name, flags, self.path / path, mode=mode)
            if writes and not flags & os.O_EXCL:
                try:
                    no_follow.require_names(found, self.path / path)
                    self._require_owner(found, self.path / path)
                except BaseException:
                    os.close(found)
                    raise
            return found

    @contextmanager
    def whole(self, path: str, *, mode: int | None = 0o644) -> Iterator[BinaryIO]:
        """Yield a new file that replaces `path`, flushed to disk, when the block succeeds; otherwise it is removed.

        The file gets this `mode`, or 0o666 with the process's umask. Raise `DiskFullError`, `NotWritableError`, `MachineError`.
        """
        try:
            with self.parent_of(path, writes=True) as (folder, name):
                temporary = f".{name}.{secrets.token_hex(4)}{PARTIAL}"
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | no_follow.FILE_FLAGS
                handle = os.open(temporary, flags, 0o600 if mode is not None else 0o666, dir_fd=folder)
                try:
                    with os.fdopen(handle, "wb") as file:
                        yield file
                        file.flush()
                        if mode is not None:
                            os.fchmod(file.fileno(), mode)
                        os.fsync(file.fileno())
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise
                no_follow.flush(folder)
        except OSError as fault:
            raise disk_fault(fault, self.path / path) from fault

    def write_whole(self, path: str, data: bytes | mmap, *, mode: int = 0o644) -> None:
        """Replace the content of a file with `data` atomically, as `whole` does."""
        with self.whole(path, mode=mode) as file:
            file.write(data)

    def mkdir(self, path: str, *, mode: int = 0o777) -> None:
        """Create a folder. Raise `FileExistsError` if the name exists."""
        with self.parent_of(path, writes=True) as (folder, name):
            os.mkdir(name, mode, dir_fd=folder)

    def rename(self, old: str, new: str, *, to: Root | None = None) -> None:
        """Rename a file or a folder, below this root or to a path below `to`."""
        with (
            self.parent_of(old, writes=True) as (here, name),
            (to or self).parent_of(new, writes=True) as (there, other),
        ):
            os.rename(name, other, src_dir_fd=here, dst_dir_fd=there)

    def link(self, old: str, new: str, *, to: Root) -> None:
        """Create a hard link to a regular file, below `to`."""
        with self.parent_of(old) as (here, name), to.parent_of(new, writes=True) as (there, other):
            no_follow.link_file(here, name, there, other, self.path / old)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        with self.parent_of(path, writes=True) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def unlink(self, path: str, *, missing_ok: bool = False) -> None:
        """Remove a file or a link; the link's target is not removed."""
        with (
            suppress(*([FileNotFoundError] if missing_ok else [])),
            self.parent_of(path, writes=True) as (folder, name),
        ):
            os.unlink(name, dir_fd=folder)

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all removable content, including read-only folders, or a link, not its target. Ignore a missing path.

        Raise the first error that prevented a removal.
        """
        with suppress(FileNotFoundError), self.parent_of(path, writes=True) as (folder, name):
            no_follow.remove(folder, name)

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode of a file or a folder through its descriptor."""
        with self._either(path) as handle:
            os.fchmod(handle, mode)

    def chown(self, path: str, uid: int, gid: int, *, names: int = 1) -> None:
        """Set the owner of a folder, or of a file with at most `names` links, through its descriptor."""
        with self._either(path, names=names) as handle:
            os.fchown(handle, uid, gid)

    def give(self, path: str) -> None:
        """Give an entry that root created to the owner of its folder, which is the user that writes there in containers."""
        with self.parent_of(path) as (folder, _):
            owner = os.fstat(folder)
        if os.getuid() == 0:
            self.chown(path, owner.st_uid, owner.st_gid)

    def flush(self) -> None:
        """Flush the names in this folder to disk, so that they survive a power failure, if the file system supports that."""
        no_follow.flush(self._handle)

    @contextmanager
    def parent_of(self, path: str, *, writes: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the descriptor of the folder that contains `path`, and the last part. An `OSError` of the block names the whole path."""
        *above, name = self._parts(path)
        folder = self._entered(above) if above else self._handle
        try:
            if writes:
                self._require_owner(folder, "/".join(above))
            yield folder, name
        except OSError as fault:
            _name_path(fault, self.path / path)
            raise
        finally:
            if above:
                os.close(folder)

    def _parts(self, path: str) -> list[str]:
        if fault := path_fault(path):
            message = f"{path[:200]!a} is not a path below {shown(self.path)}: {fault}"
            raise UnsafePathError(
                message, hint="the document that names it was altered: delete it, or ask its author for a new copy"
            )
        return path.split("/")

    def _entered(self, parts: list[str], *, make: bool = False) -> int:
        folder, here = os.dup(self._handle), self.path
        for part in parts:
            above, here = folder, here / part
            try:
                if make and not no_follow.is_there(above, part):
                    self._require_owner(above, here.parent)
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=above)
                folder = no_follow.enter(above, part, here)
            except OSError as fault:
                _name_path(fault, here)
                raise
            finally:
                os.close(above)
        return folder

    @contextmanager
    def _either(self, path: str, *, names: int = 1) -> Iterator[int]:
        with self.parent_of(path) as (folder, name):
            handle = no_follow.open_either(folder, name, self.path / path, names=names)
            try:
                yield handle
            finally:
                os.close(handle)

    def _listed(self, here: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            folder = self._entered(here.split("/") if here else [])
        except OSError:
            return
        try:
            for name in sorted(os.listdir(folder)):  # noqa: PTH208 - of a descriptor
                with suppress(FileNotFoundError):
                    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    yield f"{here}/{name}" if here else name, about
        finally:
            os.close(folder)

    def _require_owner(self, handle: int, path: str | Path) -> None:
        """Raise `PermissionError`, as the system does, if the file's owner is not in `owners`. `path` may be relative to this folder."""
        if self._owners is not None and (owner := os.fstat(handle).st_uid) not in self._owners:
            known = " or ".join(map(str, sorted(self._owners)))
            raise PermissionError(
                errno.EPERM, f"it belongs to uid {owner}; expected uid {known}", str(self.path / path)
            )


def run_root(folder: Path) -> Root:
    """Open the folder of a run. The run's owner is trusted below it.

    Raise `OSError` if the folder cannot be opened, and `UnsafePathError` if it is a link.
    """
    folder = folder.absolute()
    with Root.at(folder.parent) as runs, runs.below(folder.name) as run:
        return run.as_root()


def _with_owners(handle: int) -> tuple[int, frozenset[int] | None]:
    """Return a root folder's descriptor, and the owners that are trusted below it."""
    found = os.fstat(handle)
    return handle, None if found.st_mode & _OPEN_TO_OTHERS else frozenset({os.geteuid(), 0, found.st_uid})


def _name_path(fault: OSError, path: Path) -> None:
    fault.filename, fault.filename2 = str(path), None
