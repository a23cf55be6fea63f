"""Atomic writes of files in the folder of an attempt: a file appears under its name only when all its bytes are on the disk."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from trainer.base.atomic_file import disk_faults
from trainer.base.run_files import folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path`, synced to disk, when the block succeeds; the folder is created if it is missing.

    Raise `DiskFullError` or `NotWritableError` if the file cannot be written. Lightning copies over the old file when it saves: a kill
    during the copy would leave no valid file.
    """
    with disk_faults(path), folder_of(path, make=True) as folder, folder.whole(path.name, mode=None) as file:
        yield file


def write_whole(path: Path, data: bytes) -> None:
    """Replace the content of `path` with `data` atomically; see `replacing`."""
    with replacing(path) as file:
        file.write(data)
