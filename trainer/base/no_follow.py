"""Open and remove entries of an open folder without following links. `trainer.base.safe_folder` builds paths from these steps.

A link, a pipe, a socket or a device in place of a file or a folder raises an error that names it. Other failures stay an `OSError`.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trainer.base.disk_errors import shown
from trainer.base.errors import UnsafePathError

if TYPE_CHECKING:
    from pathlib import Path

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK, opening a pipe blocks until its other end is opened."""
_IN_THE_WAY: Final = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP}
"""The error codes for a link, a file, a folder or a socket of another type than expected."""
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def enter(folder: int, name: str, path: Path) -> int:
    """Open a folder in `folder` and return its descriptor. Raise `UnsafePathError` for anything else; `path` is its name in messages."""
    try:
        return os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as fault:
        if fault.errno in _IN_THE_WAY:
            raise _unsafe(folder, name, path, expected="a folder") from fault
        raise


def open_file(folder: int, name: str, flags: int, path: Path, *, mode: int = 0o666) -> int:
    """Open a regular file in `folder` and return its descriptor. Raise `UnsafePathError` for anything else."""
    try:
        handle = os.open(name, flags | FILE_FLAGS, mode, dir_fd=folder)
    except OSError as fault:
        if fault.errno in _IN_THE_WAY:
            raise _unsafe(folder, name, path, expected="a file") from fault
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _unsafe(folder, name, path, expected="a file")
    return handle


def open_either(folder: int, name: str, path: Path, *, names: int = 1) -> int:
    """Open a folder, or a file with at most `names` links, to change its mode or owner. Raise `UnsafePathError` for anything else."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        return enter(folder, name, path)
    handle = open_file(folder, name, os.O_RDONLY, path)
    try:
        require_names(handle, path, most=names)
    except BaseException:
        os.close(handle)
        raise
    return handle


def require_names(handle: int, path: Path, *, most: int = 1) -> None:
    """Raise `UnsafePathError` if a file has more than `most` hard links: such a file can also be in another folder."""
    if (names := os.fstat(handle).st_nlink) > most:
        message = f"{shown(path)} has {names} hard links; expected at most {most}"
        raise UnsafePathError(message, hint=f"remove this link: rm {shlex.quote(str(path))}")


def link_file(folder: int, name: str, there: int, other: str, path: Path) -> None:
    """Hard-link a regular file in `folder` into the folder `there`. Raise `UnsafePathError` for anything else."""
    os.link(name, other, src_dir_fd=folder, dst_dir_fd=there, follow_symlinks=False)
    if not stat.S_ISREG(os.stat(other, dir_fd=there, follow_symlinks=False).st_mode):
        os.unlink(other, dir_fd=there)
        raise _unsafe(folder, name, path, expected="a file")


def remove(folder: int, name: str) -> None:
    """Remove a file, a link, or a folder with all removable content, including read-only folders.

    Not recursive, because another user can nest folders to any depth. Raise the first error that prevented a removal.
    """
    entered: list[tuple[int, str, list[str]]] = []  # a folder's descriptor, its name, the names in it that remain
    faults: list[OSError] = []
    left = [name]
    while entered or left:
        inner = entered[-1][0] if entered else folder
        try:
            if not left:
                _, name, _ = entered.pop()
                os.close(inner)
                left = entered[-1][2] if entered else []
                os.rmdir(name, dir_fd=entered[-1][0] if entered else folder)
            elif (found := _removed_or_entered(inner, name := left.pop())) is not None:
                left = []
                # first, so that the descriptor is closed if the folder cannot be listed
                entered.append((found, name, left))
                left += os.listdir(found)  # noqa: PTH208 - pathlib cannot list a descriptor
        except OSError as fault:
            faults.append(fault)
    if faults:
        raise faults[0]


def _removed_or_entered(folder: int, name: str) -> int | None:
    try:
        inner = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as fault:
        if fault.errno not in _IN_THE_WAY:
            raise
        os.unlink(name, dir_fd=folder)
        return None
    with suppress(PermissionError):  # another user's folder: the next calls show whether it can be emptied
        os.fchmod(inner, 0o700)
    return inner


def is_there(folder: int, name: str) -> bool:
    """Return whether an entry with this name exists. A symbolic link counts, even if its target is missing."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def flush(folder: int) -> None:
    """Flush the names in a folder to disk, so that they survive a power failure, if the file system supports that."""
    with suppress(OSError):
        os.fsync(folder)


def _unsafe(folder: int, name: str, path: Path, *, expected: str) -> UnsafePathError:
    """Return the error that names what was found in place of a file or a folder."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        what = next((kind for is_one, kind in _KINDS if is_one(found.st_mode)), "of an unknown kind")
        if stat.S_ISLNK(found.st_mode):
            what = f"{what} to {os.readlink(name, dir_fd=folder)[:200]!a}"
    except OSError:
        return UnsafePathError(f"{shown(path)} was changed while it was opened", hint="type the same command again")
    remove_it = f"{'rm -r' if stat.S_ISDIR(found.st_mode) else 'rm'} {shlex.quote(str(path))}"
    message = f"{shown(path)} is {what}, of uid {found.st_uid}; expected {expected}"
    return UnsafePathError(message, hint=f"it was not changed; to remove it: {remove_it}")
