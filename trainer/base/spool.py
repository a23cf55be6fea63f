"""Unnamed temporary files for data that is too large for memory; a file disappears with its process."""

from __future__ import annotations

import mmap
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trainer.base.atomic_file import disk_faults

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def spool(folder: Path | None = None) -> Iterator[BinaryIO]:
    """Yield an empty file for writing and reading, in `folder` or the system's temporary folder. A full disk raises `DiskFullError`."""
    with disk_faults(folder or Path(tempfile.gettempdir())), tempfile.TemporaryFile(dir=folder) as file:
        yield file


def mapped(file: BinaryIO) -> bytes | mmap.mmap:
    """Return the file's content as a memory map; it stays valid after the file is closed."""
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b""
