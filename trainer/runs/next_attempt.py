"""Preparing an attempt that resumes a run: its checkpoint, the best checkpoint, and logs truncated to the checkpoint.

The newest checkpoint that agrees with its digest is used. Earlier attempts are never changed, and a pointer out of them is rejected.
The pointer is written last: if this attempt is killed before, the next attempt selects the same checkpoint.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_open
from trainer.base.document import parse_json
from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.base.safe_folder import Root, run_root
from trainer.runs.checkpoint_pointer import BEST, FOLDER, LATEST, PREVIOUS, Saved
from trainer.runs.run import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

_BLOCK = 1 << 20
_LARGEST = 1 << 20
"""The most bytes of a pointer."""
_LOGS: Final = ("metrics.jsonl", "trace.jsonl")


def restore_checkpoint(
    attempt: Path,
    *,
    say: Callable[[str], None],
    unfit: Mapping[str, str] = MappingProxyType({}),
    passed: Collection[int] = (),
) -> Saved | None:
    """Prepare `attempt`, the newest of its run, to resume from the last good checkpoint; return `None` if there is none.

    `unfit` maps the digest of each checkpoint that could not be restored to the reason; attempts in `passed` are not used. Each
    skipped checkpoint is reported. Raise `DiskFullError`, `NotWritableError`; `UnsafePathError`,
    `DigestMismatchError` for files outside the run.
    """
    with disk_faults(attempt), run_root(attempt.parents[1]) as run:
        with run.below(f"{ATTEMPTS}/{attempt.name}") as current:
            _clear(current)
        for number in range(int(attempt.name) - 1, 0, -1):
            if number in passed or run.stat(f"{ATTEMPTS}/{number}") is None:
                continue
            with run.below(f"{ATTEMPTS}/{number}") as earlier:
                for saved in _usable(earlier, say, unfit):
                    with run.below(f"{ATTEMPTS}/{attempt.name}") as current:
                        return _prepare(earlier, current, saved)
    return None


def _clear(attempt: Root) -> None:
    """Remove the files of a checkpoint that could not be restored."""
    if attempt.stat(FOLDER) is not None:
        attempt.remove_tree(FOLDER)
    for name in _LOGS:
        attempt.unlink(name, missing_ok=True)


def _usable(earlier: Root, say: Callable[[str], None], unfit: Mapping[str, str]) -> Iterator[Saved]:
    """Yield the usable checkpoints of an attempt, newest first."""
    for name in (LATEST, PREVIOUS):
        if earlier.stat(f"{FOLDER}/{name}") is None:
            continue
        try:
            saved = _pointer(earlier, name)
            reason = unfit.get(saved.sha256) or _checkpoint_fault(earlier, saved)
        except (OSError, DocumentError) as error:
            reason = str(error)
        else:
            if reason is None:
                yield saved
                continue
        say(f"skipped: {reason}")


def _pointer(earlier: Root, name: str) -> Saved:
    path = str(earlier.path / FOLDER / name)
    saved = parse_json(earlier.read(f"{FOLDER}/{name}", most=_LARGEST), Saved, where=path)
    if fault := saved.strange():
        raise DigestMismatchError(
            f"{path} is not a pointer written by a training: {fault}", hint="do not resume this run"
        )
    return saved


def _checkpoint_fault(earlier: Root, saved: Saved) -> str | None:
    """Return why a checkpoint cannot be used; `None` if it can."""
    for checkpoint in (saved, saved.best) if saved.best else (saved,):
        with earlier.open(f"{FOLDER}/{checkpoint.path}") as file:
            digest = digest_of_open(file)
        if digest != checkpoint.sha256:
            return f"{earlier.path / FOLDER / checkpoint.path}: expected {checkpoint.sha256[:19]}, found {digest[:19]}"
    for log, size in saved.logs.items():
        with earlier.open(log) as file:
            if os.fstat(file.fileno()).st_size < size:
                return f"{earlier.path / log} is shorter than when checkpoint {saved.path} was saved"
    return None


def _prepare(earlier: Root, attempt: Root, saved: Saved) -> Saved:
    for log, size in saved.logs.items():
        _copy(earlier, attempt, log, size)
    with attempt.below(FOLDER, make=True) as folder:
        for part in {part.path for part in (saved, saved.best) if part}:
            _link_or_copy(earlier, folder, part)
        if saved.best:
            folder.write_whole(BEST, saved.best.model_dump_json().encode() + b"\n")
        folder.write_whole(LATEST, saved.to_json())
    return saved


def _copy(earlier: Root, attempt: Root, log: str, size: int | None = None) -> None:
    """Copy the first `size` bytes of a file."""
    with earlier.open(log) as source, attempt.create(log, make=True) as target:
        while block := source.read(_BLOCK if size is None else min(size, _BLOCK)):
            target.write(block)
            size = None if size is None else size - len(block)
        target.flush()
        os.fsync(target.fileno())


def _link_or_copy(earlier: Root, folder: Root, name: str) -> None:
    """Link a checkpoint into the new attempt; copy it if the file system has no hard links."""
    with suppress(OSError):
        earlier.link(f"{FOLDER}/{name}", name, to=folder)
        return
    with earlier.below(FOLDER) as checkpoints:
        _copy(checkpoints, folder, name)
