"""Write files atomically: a file is either complete or absent.

The path is followed as the user typed it; files below a runs folder or a cache are written through `trainer.base.safe_folder`. A full
disk or a folder without write permission raises an error that names the path, and the previous file is kept.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from trainer.base.disk_errors import disk_fault
from trainer.base.safe_folder import Root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap
    from pathlib import Path


def write_whole(path: Path, data: bytes | mmap, *, mode: int = 0o644) -> None:
    """Replace the content of `path` with `data` atomically. Raise `MachineError` if it cannot be written."""
    with disk_faults(path), Root.at(path.parent) as folder:
        folder.write_whole(path.name, data, mode=mode)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk, so that they survive a power failure, if the file system supports that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_faults(path: Path, *, done: str = "written") -> Iterator[None]:
    """Convert an `OSError` about `path` to an error of Reprise; `done` names the failed action in the message, as a participle."""
    try:
        yield
    except OSError as fault:
        raise disk_fault(fault, path, done=done) from fault
