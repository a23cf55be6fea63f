"""Verify an attempt in `runs/` against its record and the note of its publication.

A file must have the recorded size and digest. Only a console log may be longer: it gets lines after the record was closed.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, UnsafePathError
from trainer.base.run_files import attempt_root
from trainer.runs.publish import seal_of
from trainer.runs.run import CLAIM, RECORD, read_publication
from trainer.source.capture import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from trainer.base.file_entry import File
    from trainer.base.safe_folder import Root
    from trainer.runs.record import Record

_CONSOLE_LOG: Final = re.compile(r"log\.txt|rank-[0-9]+\.txt")
_BLOCK: Final = 1 << 20


def require_intact(attempt: Path, record: Record) -> int:
    """Verify the files of an attempt and return their number. Raise `DigestMismatchError`, which names the first damaged file."""
    faults = list(damaged(attempt, record))
    if faults:
        others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DigestMismatchError(f"{faults[0]}{others}", hint=remedy(attempt, record))
    return len(record.outcome.files)


def damaged(attempt: Path, record: Record) -> Iterator[str]:
    """Yield a line if the record or the source bundle is not as published, and a line for each file that is not as recorded."""
    if (fault := _fault_of_documents(attempt, record)) is not None:
        yield fault
    yield from altered_files(attempt, record.outcome.files).values()


def altered_files(attempt: Path, files: Iterable[File]) -> dict[str, str]:
    """Return how recorded files differ from the record, by path."""
    with attempt_root(attempt) as folder:
        faults = {file.path: fault_of(folder, file) for file in files}
    return {path: fault for path, fault in faults.items() if fault is not None}


def fault_of(attempt: Root, file: File) -> str | None:
    """Return how a file differs from the recorded file, or `None`."""
    path = attempt.path / file.path
    try:
        with attempt.open(file.path) as content:
            size, digest = os.fstat(content.fileno()).st_size, _digest_of_start(content, file.size)
    except FileNotFoundError:
        return f"{path} is missing; the record lists it"
    except UnsafePathError as fault:
        return fault.message
    if digest != file.sha256:
        return f"{path} is damaged: recorded {file.sha256[:19]}, found {digest[:19]}"
    if size > file.size and not _CONSOLE_LOG.fullmatch(file.path):
        return f"{path} is damaged: recorded {file.size:,} bytes, found {size:,}"
    return None


def _fault_of_documents(attempt: Path, record: Record) -> str | None:
    """Return how the record or the run's source bundle differs from the note of publication, or `None`. A missing bundle is no fault."""
    note = read_publication(attempt)
    if note is None:
        return None
    sealed = seal_of(attempt, record)
    if note.record not in {None, digest_of_bytes(sealed.record_text())}:
        return f"{attempt / RECORD} is not the record that was published"
    if sealed.source is None or digest_of_bytes(sealed.to_json()) == note.sealed:
        return None
    bundle = attempt.parents[1] / ARCHIVE
    return f"{bundle if note.record else attempt / RECORD} differs from what was published"


def remedy(attempt: Path, record: Record) -> str:
    """Return the hint for a damaged file: where an intact copy is."""
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
