"""Open files of a run by path, below the run's folder and never through a link.

runs/<id>/attempts/<n>/…    opened below runs/<id>
runs/<id>/source.tar.gz     opened below runs/<id>
runs/sweeps/<id>/…          opened below runs/sweeps
"""

from __future__ import annotations

import os
from io import FileIO
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from pydantic import BaseModel

from trainer.base.document import parse_json
from trainer.base.plain_text import LARGEST, read_open, reading
from trainer.base.safe_folder import Root, run_root

if TYPE_CHECKING:
    from pathlib import Path

M = TypeVar("M", bound=BaseModel)
ATTEMPTS: Final = "attempts"
SWEEPS: Final = "sweeps"


def attempt_root(attempt: Path) -> Root:
    """Open an attempt's folder, `runs/<id>/attempts/<n>`. Raise `OSError` or `UnsafePathError` if it cannot be opened."""
    attempt = attempt.absolute()
    with run_root(attempt.parents[1]) as run:
        return run.below(f"{attempt.parent.name}/{attempt.name}")


def folder_of(path: Path, *, make: bool = False) -> Root:
    """Open the folder of a run's file; `make` creates it if missing. Raise `OSError` or `UnsafePathError` if it cannot be opened."""
    path = path.absolute()
    depth = max(_depth(path), int(make))
    if depth == 0:
        return run_root(path.parent)
    with run_root(path.parents[depth]) as run:
        return run.below("/".join(path.parts[-1 - depth : -1]), make=make)


def open_run_file(path: Path) -> BinaryIO:
    """Open a file of a run for reading. Raise `OSError` if it cannot be read, `UnsafePathError` if it is not a regular file of the run."""
    return os.fdopen(_handle(path), "rb")


def read_run_file(path: Path, *, most: int = LARGEST) -> bytes:
    """Return the bytes of a run's file.

    Raise `DocumentError` if it cannot be read or has more than `most` bytes, and `UnsafePathError` if it is not a regular file of the run.
    """
    with reading(path), FileIO(_handle(path)) as file:
        return read_open(file, path, most=most)


def read_run_json(path: Path, model: type[M], *, most: int = LARGEST) -> M:
    """Read a document of a run as `model`. Raise `DocumentError` if it is invalid, and as `read_run_file` does."""
    return parse_json(read_run_file(path, most=most), model, where=str(path), most=most)


def _handle(path: Path) -> int:
    with folder_of(path) as folder:
        return folder.handle(path.name, os.O_RDONLY)


def _depth(path: Path) -> int:
    """Return the number of folders between a file and the folder that `run_root` opens."""
    parts = path.parts
    if parts[-3:-2] == (SWEEPS,):
        return 1
    for at in range(len(parts) - 3, 0, -1):
        if parts[at] == ATTEMPTS and parts[at + 1].isdigit():
            return len(parts) - 1 - at
    return 0
