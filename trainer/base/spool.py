"""A file without a name, for what is too long to be held in memory: gone with its process, whatever ends it.

Knows how it is made and mapped. Refuses to know what stands in it.
"""

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
    """An empty file to write and to read, in `folder` or where the system keeps such. A full disk raises `DiskFullError`."""
    with disk_faults(folder or Path(tempfile.gettempdir())), tempfile.TemporaryFile(dir=folder) as file:
        yield file


def mapped(file: BinaryIO) -> bytes | mmap.mmap:
    """All that was written into it, to be read; it stays when the file is closed."""
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b""
