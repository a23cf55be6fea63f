"""Open an attempt of a run, write its record, and close it.

The record is written atomically when the attempt is opened, at each change, and when it is closed. A process holds the lock of its claim
until it ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_open
from trainer.base.document import parse_json
from trainer.base.errors import DiskFullError, MachineError, ResumeError, RunError, UnsafePathError
from trainer.base.file_entry import File
from trainer.base.paths import path_fault
from trainer.base.plain_text import reading
from trainer.base.redaction import REDACTOR
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import PARTIAL, Root, run_root
from trainer.runs.record import Circumstances, Ingredients, Outcome, Record, RunStatus, identity_of
from trainer.runs.run import (
    ATTEMPTS,
    CLAIM,
    PUBLISHED,
    RECORD,
    SNAPSHOT,
    abandon,
    attempts,
    load_record,
    record_of,
    recorded_attempts,
)
from trainer.runs.seal import MOST_FILES, SMALL, Claim, read_claim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RESERVE: Final = ".reserve"
_RESERVED: Final = 1 << 20
"""Bytes reserved so that a run can write its outcome to a full disk: three times a large record."""
_NOT_RESULTS: Final = frozenset({RECORD, CLAIM, PUBLISHED, SNAPSHOT, _RESERVE})


@dataclass(slots=True, kw_only=True)
class OpenRun:
    """An attempt in progress: its folder, and its record as last written."""

    folder: Path
    """The attempt's folder, `runs/<id>/attempts/<n>`."""
    record: Record
    lifeline: int | None = None
    """The descriptor of the claim, which is locked until this process ends; `is_alive` checks the lock."""
    is_claimed: bool = False
    """Whether the store has the claim, so that the attempt's number is never used again."""

    def update(self, *, outcome: Outcome | None = None, circumstances: Circumstances | None = None) -> None:
        """Write the record with a new outcome or new circumstances; on failure, the last written record remains."""
        changed = {
            "outcome": outcome or self.record.outcome,
            "circumstances": circumstances or self.record.circumstances,
        }
        record = _redacted(self.record.model_copy(update=changed))
        with disk_faults(self.folder / RECORD), attempt_root(self.folder) as folder:
            folder.write_whole(RECORD, record.to_json())
        self.record = record

    def close(self, outcome: Outcome, *, circumstances: Circumstances | None = None) -> Record:
        """Write the outcome, with the digest of every file, and release the lock. The reserved space is freed first.

        Raise `RunError` if the outcome has status `running`, or if there are more files than a record can list; `DiskFullError`.
        """
        if outcome.status is RunStatus.RUNNING:
            raise RunError("a run cannot be closed as running", hint="this is a bug in Reprise")
        files = files_of(self.folder)
        complete = outcome.model_copy(update={"files": files[:MOST_FILES]})
        with attempt_root(self.folder) as folder:
            folder.unlink(_RESERVE, missing_ok=True)
        try:
            self.update(outcome=complete, circumstances=circumstances)
        except DiskFullError as fault:
            message = f"the record of run {self.record.run} could not be closed: {fault.message}; the last written record stays"
            raise DiskFullError(message, hint=fault.hint) from fault
        self.release()
        if len(files) > MOST_FILES:
            message = f"run {self.record.run} has {len(files):,} files; its record lists the first {MOST_FILES:,}"
            raise RunError(message, hint="write fewer and larger files; the others are neither verified nor published")
        return self.record

    def withdraw(self) -> None:
        """Remove the attempt, which took no step, and the run if it has no other recorded attempt.

        If the store has the claim, the claim is kept, so that the attempt's number is not used again.
        """
        self.release()
        claim = claim_of(self.folder) if self.is_claimed else None
        with suppress(OSError, MachineError), run_root(self.folder.parents[1]) as run:
            run.remove_tree(f"{ATTEMPTS}/{self.folder.name}")
            if claim is not None:
                hold_number(run, int(self.folder.name), claim)
        abandon(self.folder.parents[1])

    def release(self) -> None:
        """Release the lock of the attempt."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None


def open_run(folder: Path, *, ingredients: Ingredients, circumstances: Circumstances) -> OpenRun:
    """Claim the next attempt of the run in `folder` and write its record with status `running`.

    Raise `RunError` if an earlier attempt had other ingredients, `ResumeError` if another process opens the same attempt, `DiskFullError`,
    `NotWritableError`.
    """
    identity = identity_of(ingredients)
    earlier = attempts(folder)
    if (identity_of_run := _identity(folder, earlier)) not in {None, identity}:
        message = f"run {folder.name} is {identity_of_run}; found {identity}: its ingredients have changed"
        raise RunError(message, hint="start a new run")
    number = len(earlier) + 1
    attempt_folder = folder / ATTEMPTS / str(number)
    record = _redacted(
        Record(
            run=folder.name,
            attempt=number,
            identity=identity,
            ingredients=ingredients,
            circumstances=circumstances,
            outcome=Outcome(status=RunStatus.RUNNING),
        )
    )
    claim = Claim(run=record.run, attempt=number, identity=identity, host=circumstances.host.name, token=token_hex(16))
    with disk_faults(attempt_folder), _claim(attempt_folder) as attempt:
        attempt.write_whole(CLAIM, claim.to_json())
        opened = OpenRun(folder=attempt_folder, record=record, lifeline=_lifeline(attempt))
        try:
            _reserve(attempt)
            attempt.write_whole(RECORD, record.to_json())
        except BaseException:
            opened.release()
            raise
    return opened


def _redacted(record: Record) -> Record:
    """Return the record with secrets redacted in the circumstances and the outcome, which are not part of the identity."""
    changed: dict[str, Outcome | Circumstances] = {}
    for name, document in (("circumstances", record.circumstances), ("outcome", record.outcome)):
        text = document.model_dump_json()
        if (redacted := REDACTOR.redact(text)) != text:
            changed[name] = parse_json(redacted, type(document), where="the record")
    return record.model_copy(update=changed) if changed else record


def is_alive(attempt: Path) -> bool:
    """Return whether the process that opened this attempt still runs: false if the claim cannot be opened, true if its lock fails.

    A process on another machine may not be detected: no guarantee relies on this function.
    """
    try:
        with attempt_root(attempt) as folder:
            handle = folder.handle(CLAIM, os.O_RDONLY)
    except (OSError, UnsafePathError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def close_killed(attempt: Path, *, host: str) -> Record:
    """Close the record of an attempt whose process was killed, with status `interrupted`.

    `host` is the name of this host. Raise `RunError` if the attempt was opened on another host or is alive.
    """
    owner = _owner(attempt)
    if owner not in {None, host}:
        run = attempt.parent.parent.name
        message = f"attempt {attempt.name} of run {run} was started on host {owner}; this is host {host}"
        hint = f"run the command there; if that host no longer exists: REPRISE_HOST={owner} reprise runs publish {run} --abandoned"
        raise RunError(message, hint=hint)
    if is_alive(attempt):
        raise RunError(
            f"run {attempt.parent.parent.name} is still running: its process holds the lock of its claim",
            hint="stop it, or wait until it ends",
        )
    opened = OpenRun(folder=attempt, record=load_record(attempt / RECORD))
    outcome = opened.record.outcome.model_copy(update={"status": RunStatus.INTERRUPTED, "reason": _KILLED})
    return opened.close(outcome)


_KILLED: Final = "its process ended without closing the record"


def _owner(attempt: Path) -> str | None:
    """Return the host that claimed an attempt; `None` if it was killed before the claim was written."""
    text = claim_of(attempt)
    return None if text is None else read_claim(text, where=str(attempt / CLAIM)).host


def claim_of(attempt: Path) -> bytes | None:
    """Return the bytes of an attempt's claim; `None` if the file does not exist. Raise `DocumentError` if it cannot be read."""
    with reading(attempt / CLAIM), suppress(FileNotFoundError), attempt_root(attempt) as folder:
        return folder.read(CLAIM, most=SMALL)
    return None


def hold_number(run: Root, number: int, claim: bytes) -> None:
    """Create the folder of an attempt with nothing but a claim, so that the next attempt of the run takes a later number."""
    with run.below(f"{ATTEMPTS}/{number}", make=True) as attempt:
        attempt.write_whole(CLAIM, claim)


def _identity(folder: Path, earlier: list[int]) -> str | None:
    """Return the identity of the run's first recorded attempt; `None` if no attempt has a record."""
    recorded = set(recorded_attempts(folder)).intersection(earlier)
    return record_of(folder, min(recorded)).identity if recorded else None


def files_of(attempt: Path) -> list[File]:
    """Return the result files of an attempt, sorted by path, without links, partial files, or files with an invalid path."""
    with attempt_root(attempt) as folder:
        return [_file(folder, path) for path in sorted(_results(folder))]


def _results(attempt: Root) -> Iterator[str]:
    for path, status in attempt.walk():
        is_result = path not in _NOT_RESULTS and not path.endswith(PARTIAL) and not path_fault(path)
        if is_result and stat.S_ISREG(status.st_mode):
            yield path


def _file(attempt: Root, path: str) -> File:
    with attempt.open(path) as file:
        return File(path=path, size=os.fstat(file.fileno()).st_size, sha256=digest_of_open(file))


def _claim(attempt: Path) -> Root:
    """Create the folder of an attempt and open it. Raise `ResumeError` if the folder exists."""
    with run_root(attempt.parents[1]) as run, run.below(ATTEMPTS, make=True) as folder:
        try:
            folder.mkdir(attempt.name)
        except FileExistsError as fault:
            owner = _owner(attempt)
            message = f"attempt {attempt.name} of run {attempt.parent.parent.name} was just started"
            raise ResumeError(
                f"{message} {f'on host {owner}' if owner else 'by another process'}", hint="wait until it ends"
            ) from fault
        return folder.below(attempt.name)


def _lifeline(attempt: Root) -> int | None:
    """Lock the claim and return its descriptor. The system releases the lock when this process ends."""
    handle = attempt.handle(CLAIM, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _reserve(attempt: Root) -> None:
    """Reserve space with random bytes, since a sparse or compressed file would reserve no space."""
    with disk_faults(attempt.path / _RESERVE), attempt.create(_RESERVE) as file:
        file.write(os.urandom(_RESERVED))
