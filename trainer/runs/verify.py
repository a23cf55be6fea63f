"""Verifying an attempt: its files by the digests in its record, its record by the seal. `pull_run` restores damaged files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, UnsafePathError
from trainer.base.run_files import attempt_root
from trainer.runs.publish import seal_of
from trainer.runs.run import CLAIM, RECORD, read_publication

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.base.file_entry import File
    from trainer.base.safe_folder import Root
    from trainer.runs.record import Record

_BLOCK = 1 << 20


def require_whole(attempt: Path, record: Record) -> int:
    """Return the number of verified files. Raise `DigestMismatchError`, which names the first damaged file."""
    faults = list(damaged(attempt, record))
    if faults:
        others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DigestMismatchError(f"{faults[0]}{others}", hint=_remedy(attempt, record))
    return len(record.outcome.files)


def damaged(attempt: Path, record: Record) -> Iterator[str]:
    """Yield a line for each file of an attempt that differs from its record."""
    if not is_as_sealed(attempt, record):
        yield f"{attempt / RECORD} is not the record that was published"
    with attempt_root(attempt) as folder:
        for file in record.outcome.files:
            if (fault := fault_of(folder, file)) is not None:
                yield fault


def fault_of(attempt: Root, file: File) -> str | None:
    """Return the fault of a file; `None` if it starts with the recorded bytes: a log may have grown."""
    path = attempt.path / file.path
    try:
        with attempt.open(file.path) as content:
            digest = _digest_of_start(content, file.size)
    except FileNotFoundError:
        return f"{path} is missing; the record lists it"
    except UnsafePathError as fault:
        return fault.message
    return None if digest == file.sha256 else f"{path} is damaged: recorded {file.sha256[:19]}, found {digest[:19]}"


def is_as_sealed(attempt: Path, record: Record) -> bool:
    """Return whether record and files agree with the publication; True if the attempt was not published."""
    note = read_publication(attempt)
    if note is None:
        return True
    sealed = seal_of(attempt, record)
    return digest_of_bytes(sealed.to_json()) == note.sealed or sealed.source is None


def _remedy(attempt: Path, record: Record) -> str:
    note = read_publication(attempt)
    if note is None:
        return "it is in no store: restore the file from a backup, or start a new run"
    with attempt_root(attempt) as folder:
        is_claimed = folder.stat(CLAIM) is not None
    if not is_claimed:
        return f"{note.store} has an intact copy: move {attempt.parents[1]} away, then `reprise runs pull {record.run}`"
    return f"{note.store} has an intact copy: `reprise runs pull {record.run}` restores the file"


def _digest_of_start(file: BinaryIO, size: int) -> str:
    """Return the digest of a file's first `size` bytes."""
    running = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        running.update(block)
        size -= len(block)
    return f"sha256:{running.hexdigest()}"
