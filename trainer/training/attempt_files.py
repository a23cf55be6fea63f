"""Files in the folder of an attempt: append-only logs (metrics, telemetry, the trace), and files that are replaced atomically."""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.run_files import folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path`, synced to disk, when the block succeeds; raise `DiskFullError` or `NotWritableError`.

    Lightning's own saving copies over the old file: a kill during the copy would leave no valid file.
    """
    with disk_faults(path), folder_of(path, make=True) as folder, folder.whole(path.name, mode=None) as file:
        yield file


def write_whole(path: Path, data: bytes) -> None:
    """Replace the content of `path` atomically; raise `DiskFullError` or `NotWritableError`."""
    with replacing(path) as file:
        file.write(data)


class LogFile:
    """A log that opens at the first write and stays open. `append` returns after the write to the operating system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def append(self, lines: bytes) -> None:
        """Append whole lines. Raise `OSError`, `UnsafePathError`."""
        if self._handle is None:
            with folder_of(self.path) as folder:
                self._handle = folder.handle(self.path.name, _FLAGS)
            weakref.finalize(self, os.close, self._handle)
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
