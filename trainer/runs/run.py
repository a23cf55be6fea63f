"""A run's folder on this machine, its attempts, and the record of an attempt from open to close.

The record is written atomically when the attempt is opened, at each change, and when it is closed.

    runs/<id>/source.tar.gz, source/             the frozen source
    runs/<id>/attempts/<n>/claim.json            the owner of the attempt
    runs/<id>/attempts/<n>/record.json           the record
    runs/<id>/attempts/<n>/...                   metrics, checkpoints, weights
    runs/<id>/attempts/<n>/published.json        once it is in the store
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from trainer.base import run_files
from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_bytes, digest_of_open
from trainer.base.document import parse_json, read_json_below
from trainer.base.errors import DigestMismatchError, DiskFullError, ResumeError, RunError, UnsafePathError
from trainer.base.file_entry import File
from trainer.base.paths import path_fault
from trainer.base.plain_text import reading
from trainer.base.redaction import REDACTOR
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import PARTIAL, Root, run_root
from trainer.runs.record import (
    Circumstances,
    Ingredients,
    Outcome,
    Record,
    Status,
    identity_of,
    new_run_id,
    read_record,
)
from trainer.runs.seal import MOST_FILES, SMALL, Claim, Published, read_claim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ATTEMPTS: Final = run_files.ATTEMPTS
RECORD: Final = "record.json"
CLAIM: Final = "claim.json"
PUBLISHED: Final = "published.json"
_RESERVE: Final = ".reserve"
_RESERVED: Final = 1 << 20
"""Bytes reserved so that a run that filled the disk can still write its outcome: three times a large record."""
_NOT_RESULTS: Final = frozenset({RECORD, CLAIM, PUBLISHED, _RESERVE})


def new_run(runs: Path) -> tuple[str, Path]:
    """Create the folder of a new run below `runs`; return its id and path. Raise `NotWritableError`, `DiskFullError`."""
    with disk_faults(runs), Root.at(runs, make=True) as root:
        while True:
            name = new_run_id()
            with suppress(FileExistsError):
                root.mkdir(name)
                return name, runs / name


def abandon(folder: Path) -> None:
    """Remove the folder of a run unless an attempt has a record."""
    with suppress(OSError, UnsafePathError), Root.at(folder.parent) as runs:
        with suppress(FileNotFoundError), runs.below(f"{folder.name}/{ATTEMPTS}") as attempts_folder:
            if any(
                attempts_folder.stat(f"{name}/{RECORD}")
                for name in attempts_folder.names()
                if attempts_folder.has_folder(name)
            ):
                return
        runs.remove_tree(folder.name)


def attempts(folder: Path) -> list[int]:
    """Return the attempts of the run in `folder`, found by probing 1, 2, ... Raise `UnsafePathError` if an attempt is not a folder."""
    with suppress(FileNotFoundError, NotADirectoryError), run_root(folder) as run:
        return _attempts(run)
    return []


def _attempts(run: Root) -> list[int]:
    numbers: list[int] = []
    with suppress(FileNotFoundError, NotADirectoryError), run.below(ATTEMPTS) as folder:
        while True:
            folder.below(str(len(numbers) + 1)).close()
            numbers.append(len(numbers) + 1)
    return numbers


def recorded_attempts(folder: Path) -> list[int]:
    """Return the attempts that have a record; an attempt killed while it was opened has none."""
    with suppress(FileNotFoundError, NotADirectoryError), run_root(folder) as run:
        return [number for number in _attempts(run) if run.stat(f"{ATTEMPTS}/{number}/{RECORD}") is not None]
    return []


def record_of(folder: Path, attempt: int | None = None) -> Record:
    """Return the record of an attempt, by default of the last recorded attempt. Raise `DocumentError`, `RunError` if there is none."""
    recorded = recorded_attempts(folder)
    path = folder / ATTEMPTS / str(attempt or (recorded[-1] if recorded else 1)) / RECORD
    return load_record(path)


def load_record(path: Path) -> Record:
    """Return the record in a file, in an attempt's folder or elsewhere.

    Raise `DocumentError`, `UnsafePathError`, `RunError` if the file does not exist, `DigestMismatchError` if it changed after publication.
    """
    path = path.absolute()
    is_in_run = path.parent.parent.name == ATTEMPTS
    with reading(path), suppress(FileNotFoundError, NotADirectoryError):
        with attempt_root(path.parent) if is_in_run else Root.at(path.parent) as folder:
            text = folder.read(path.name)
            _require_as_published(folder, path, text)
        return read_record(text, where=str(path))
    raise RunError(
        f"{path} cannot be read: it does not exist", hint="start a new run: this one ended before its record was opened"
    )


def read_publication(attempt: Path) -> Published | None:
    """Return the note of the attempt's publication; `None` if there is no such file. Raise `DocumentError`."""
    with reading(attempt / PUBLISHED), suppress(FileNotFoundError), attempt_root(attempt) as folder:
        return _published(folder)
    return None


def _published(attempt: Root) -> Published | None:
    return read_json_below(attempt, PUBLISHED, Published, most=SMALL) if attempt.has_file(PUBLISHED) else None


def _require_as_published(attempt: Root, path: Path, text: bytes) -> None:
    note = _published(attempt)
    if note is None or note.record is None or note.record == (digest := digest_of_bytes(text)):
        return
    message = f"{path} was changed after the run was published to {note.store}: expected {note.record[:19]}.., found {digest[:19]}.."
    raise DigestMismatchError(message, hint=f"`reprise runs pull {path.parents[2].name}` restores the published record")


@dataclass(slots=True, kw_only=True)
class OpenRun:
    """An attempt in progress: its folder, and its record as last written."""

    folder: Path
    """The attempt's folder, `runs/<id>/attempts/<n>`."""
    record: Record
    lifeline: int | None = None
    """A file descriptor, locked while this process lives; `is_alive` checks the lock."""

    def update(self, *, outcome: Outcome | None = None, circumstances: Circumstances | None = None) -> None:
        """Write the record with these changes; if that fails, the last written record stays."""
        changed = {
            "outcome": outcome or self.record.outcome,
            "circumstances": circumstances or self.record.circumstances,
        }
        record = _redacted(self.record.model_copy(update=changed))
        with disk_faults(self.folder / RECORD), attempt_root(self.folder) as folder:
            folder.write_whole(RECORD, record.to_json())
        self.record = record

    def close(self, outcome: Outcome, *, circumstances: Circumstances | None = None) -> Record:
        """Write the outcome, with the digest of every file, using the reserved space if the disk is full.

        Raise `RunError` if there are more files than a record can list.
        """
        if outcome.status is Status.RUNNING:
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
        """Remove the attempt, which took no step, and the run if it has no other recorded attempt."""
        self.release()
        with suppress(OSError, UnsafePathError), run_root(self.folder.parents[1]) as run:
            run.remove_tree(f"{ATTEMPTS}/{self.folder.name}")
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
            outcome=Outcome(status=Status.RUNNING),
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
    """Return the record with secrets redacted in circumstances and outcome, which do not affect the identity."""
    changed: dict[str, Outcome | Circumstances] = {}
    for name, document in (("circumstances", record.circumstances), ("outcome", record.outcome)):
        text = document.model_dump_json()
        if (redacted := REDACTOR.redact(text)) != text:
            changed[name] = parse_json(redacted, type(document), where="the record")
    return record.model_copy(update=changed) if changed else record


def is_alive(attempt: Path) -> bool:
    """Return whether the process that opened this attempt still runs; True if the lock cannot be checked.

    A process on another machine may not be seen: nothing that must be correct relies on this.
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
    outcome = opened.record.outcome.model_copy(update={"status": Status.INTERRUPTED, "reason": _KILLED})
    return opened.close(outcome)


_KILLED: Final = "its process ended without closing the record"


def _owner(attempt: Path) -> str | None:
    """Return the host that claimed an attempt; `None` if it was killed before the claim was written."""
    text = claim_of(attempt)
    return None if text is None else read_claim(text, where=str(attempt / CLAIM)).host


def claim_of(attempt: Path) -> bytes | None:
    """Return the bytes of an attempt's claim; `None` if there is none. Raise `DocumentError`, `UnsafePathError`."""
    with reading(attempt / CLAIM), suppress(FileNotFoundError), attempt_root(attempt) as folder:
        return folder.read(CLAIM, most=SMALL)
    return None


def _identity(folder: Path, earlier: list[int]) -> str | None:
    """Return the identity of the run's recorded attempts; `None` if there are none."""
    recorded = set(recorded_attempts(folder)).intersection(earlier)
    return record_of(folder, min(recorded)).identity if recorded else None


def files_of(attempt: Path) -> list[File]:
    """Return the result files of an attempt, sorted by path, without links and partial files."""
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
    """Create the folder of an attempt and open it. Raise `ResumeError` if it exists."""
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
    """Lock the claim; the system releases the lock when this process ends."""
    handle = attempt.handle(CLAIM, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _reserve(attempt: Root) -> None:
    """Reserve space with random bytes, since a sparse or compressed file reserves none."""
    with disk_faults(attempt.path / _RESERVE), attempt.create(_RESERVE) as file:
        file.write(os.urandom(_RESERVED))
