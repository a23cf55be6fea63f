"""Messages for file system errors: the path, the failed action, the reason, and a hint that fits the reason.

Every module that writes uses this table. A read-only file system, an exhausted quota and a name that is too long each need a different
hint than a folder of another owner.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DiskFullError, MachineError, NotWritableError

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN: Final = 200


def disk_fault(fault: OSError, path: Path | str, *, done: str = "written") -> MachineError:
    """Return the error for a failure at `path`; `done` names the failed action in the message, as a participle."""
    name = shown(path)
    match fault.errno:
        case errno.ENOSPC:
            return DiskFullError(f"no space left to write {name}", hint="free space there, then run the command again")
        case errno.EDQUOT:
            message = f"no space left to write {name}: the disk quota of this user is used up"
            return DiskFullError(message, hint="remove your files on that disk, or ask for a larger quota")
        case errno.EROFS:
            message = f"{name} cannot be {done}: its file system is read-only"
            return NotWritableError(message, hint="mount it writable, or name a folder on another disk")
        case errno.EACCES | errno.EPERM:
            message = f"{name} cannot be {done} by uid {os.getuid()}, gid {os.getgid()}: {fault.strerror}"
            return NotWritableError(message, hint="change its owner or permissions, or its folder's")
        case errno.ENAMETOOLONG:
            return MachineError(f"{name} cannot be {done}: the name is too long", hint="use a shorter name")
        case _:
            message = f"{name} could not be {done}: {fault.strerror or fault}"
            return MachineError(
                message, hint="check that folder and its file system (ls -ld, df), then run the command again"
            )


def shown(path: Path | str) -> str:
    """Return a path as a message shows it: a path that is too long is truncated.

    >>> len(shown("x" * 4000))
    203
    """
    text = str(path)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
