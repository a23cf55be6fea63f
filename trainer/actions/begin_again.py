"""Laying out an attempt that goes on where an earlier one stopped: its checkpoint, the best so far, its logs cut back to it.

Knows which checkpoint is the last good one: each is held against its digest, and the newest whose every part is there is taken. Refuses to
load one, and to change anything of an earlier attempt.

The pointer is written last. An attempt that is killed before has none, so whoever goes on after it takes the same checkpoint again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from trainer.actions.run import ATTEMPTS, attempts
from trainer.digest import digest_of_file
from trainer.document import read_json
from trainer.errors import DocumentError
from trainer.host.atomic import disk_faults, write_whole
from trainer.saved import BEST, FOLDER, LATEST, PREVIOUS, Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BLOCK = 1 << 20


def begin_again(attempt: Path, *, say: Callable[[str], None]) -> Saved | None:
    """Lay out `attempt`, the newest of its run, to go on from the last good checkpoint; `None` where there is none: it begins anew.

    What is passed over is said. Raises `DiskFullError`, `NotWritableError`.
    """
    for earlier, name in _candidates(attempt):
        fault = _fault(earlier, name)
        if fault is None:
            return _laid_out(earlier, attempt, read_json(earlier / FOLDER / name, Saved))
        say(f"passed over: {fault}")
    return None


def last_saved(run: Path) -> Saved | None:
    """Name the last good checkpoint of the run in a folder."""
    after = run / ATTEMPTS / str(len(attempts(run)) + 1)
    good = ((earlier, name) for earlier, name in _candidates(after) if _fault(earlier, name) is None)
    return next((read_json(earlier / FOLDER / name, Saved) for earlier, name in good), None)


def _candidates(attempt: Path) -> Iterator[tuple[Path, str]]:
    for number in range(int(attempt.name) - 1, 0, -1):
        earlier = attempt.parent / str(number)
        for name in (LATEST, PREVIOUS):
            if (earlier / FOLDER / name).exists():
                yield earlier, name


def _fault(earlier: Path, name: str) -> str | None:
    """Say what keeps a checkpoint from being gone on from."""
    try:
        saved = read_json(earlier / FOLDER / name, Saved)
        for part in (saved, saved.best) if saved.best else (saved,):
            found = digest_of_file(earlier / FOLDER / part.path)
            if found != part.sha256:
                return f"{earlier / FOLDER / part.path}: expected {part.sha256[:19]}, found {found[:19]}"
        for log, size in saved.logs.items():
            if (earlier / log).stat().st_size < size:
                return f"{earlier / log} is shorter than when checkpoint {saved.path} was made"
    except (OSError, DocumentError) as fault:
        return str(fault)
    return None


def _laid_out(earlier: Path, attempt: Path, saved: Saved) -> Saved:
    folder = attempt / FOLDER
    with disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for log, size in saved.logs.items():
            _copy(earlier / log, attempt / log, size)
        for part in {part.path for part in (saved, saved.best) if part}:
            _share(earlier / FOLDER / part, folder / part)
    if saved.best:
        write_whole(folder / BEST, saved.best.model_dump_json().encode() + b"\n")
    write_whole(folder / LATEST, saved.to_json())
    return saved


def _copy(source: Path, target: Path, size: int) -> None:
    """Copy the first `size` bytes."""
    with source.open("rb") as given, target.open("wb") as taken:
        while size > 0 and (block := given.read(min(size, _BLOCK))):
            taken.write(block)
            size -= len(block)
        taken.flush()
        os.fsync(taken.fileno())


def _share(source: Path, target: Path) -> None:
    """Have the same file under another name; a copy where the file system knows no second name."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
