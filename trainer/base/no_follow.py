"""One step below a folder's descriptor: to open, to remove, never through a link. `trainer.base.safe_folder` makes paths of such steps.

What stands in place of a file or a folder is named: a link, a pipe, a socket, a device. An ordinary failure stays the `OSError` that it is.
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
"""Without O_NONBLOCK, to open a pipe waits for its other end."""
_IN_THE_WAY: Final = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP}
"""What the system says of a link, a file, a folder or a socket that is not what was to be opened."""
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
    """The descriptor of a folder in `folder`. Raises `UnsafePathError` for anything else; `path` is its name in messages."""
    try:
        return os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as fault:
        if fault.errno in _IN_THE_WAY:
            raise _unsafe(folder, name, path, expected="a folder") from fault
        raise


def open_file(folder: int, name: str, flags: int, path: Path, *, mode: int = 0o666) -> int:
    """The descriptor of a regular file in `folder`. Raises `UnsafePathError` for anything else."""
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
    """The descriptor of a folder, or of a file of few names, to change its mode or owner. Raises `UnsafePathError` for anything else."""
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
    """Raise `UnsafePathError` if a file has more names: it is a file of another place too."""
    if (names := os.fstat(handle).st_nlink) > most:
        said = f"{shown(path)} has {names} names (hard links); expected a file of its own"
        raise UnsafePathError(said, hint=f"remove this name of it: rm {shlex.quote(str(path))}")


def link_file(folder: int, name: str, there: int, other: str, path: Path) -> None:
    """Give a regular file in `folder` a second name in the folder `there`. Raises `UnsafePathError` for anything else."""
    os.link(name, other, src_dir_fd=folder, dst_dir_fd=there, follow_symlinks=False)
    if not stat.S_ISREG(os.stat(other, dir_fd=there, follow_symlinks=False).st_mode):
        os.unlink(other, dir_fd=there)
        raise _unsafe(folder, name, path, expected="a file")


def remove(folder: int, name: str) -> None:
    """Remove a file, a link, or a folder and all in it that can be removed, read-only folders included.

    Without recursion, since a stranger may nest folders as deep as they like. Raises what kept the first that could not be removed.
    """
    entered: list[tuple[int, str, list[str]]] = []  # a folder's descriptor, its name, the names in it that are left
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
                left = os.listdir(found)  # noqa: PTH208 - of a descriptor
                entered.append((found, name, left))
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
    with suppress(PermissionError):  # another user's: whether it may be emptied shows next
        os.fchmod(inner, 0o700)
    return inner


def is_there(folder: int, name: str) -> bool:
    """Whether anything has this name, be it a link."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def flush(folder: int) -> None:
    """Make the names in a folder survive a power cut, if the file system can do that."""
    with suppress(OSError):
        os.fsync(folder)


def _unsafe(folder: int, name: str, path: Path, *, expected: str) -> UnsafePathError:
    """Say what stands where a file or a folder was expected."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        what = next((kind for is_one, kind in _KINDS if is_one(found.st_mode)), "of an unknown kind")
        if stat.S_ISLNK(found.st_mode):
            what = f"{what} to {os.readlink(name, dir_fd=folder)[:200]!a}"
    except OSError:
        return UnsafePathError(f"{shown(path)} was changed while it was opened", hint="type the same command again")
    remove_it = f"{'rm -r' if stat.S_ISDIR(found.st_mode) else 'rm'} {shlex.quote(str(path))}"
    said = f"{shown(path)} is {what}, of uid {found.st_uid}; expected {expected}"
    return UnsafePathError(said, hint=f"nothing was done with it; to remove it: {remove_it}")
