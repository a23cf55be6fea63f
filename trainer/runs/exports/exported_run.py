"""A run as exports read it: the public records of its attempts, and its files by digest, from a folder or a store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import RunError, RunNotFoundError
from trainer.base.file_entry import File
from trainer.base.run_files import read_run_file
from trainer.runs.exports.public_record import public_record
from trainer.runs.initial_weights import INITIAL, WEIGHTS
from trainer.runs.publish import source_of
from trainer.runs.pull import sealed_attempts
from trainer.runs.record import Record, RunStatus, read_record
from trainer.runs.run import ATTEMPTS, RECORD, load_record, recorded_attempts

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from trainer.stores.contract import Store

_LOGS: Final = frozenset({"log.txt", "metrics.jsonl", "telemetry.jsonl", "trace.jsonl"})
_FOLDERS_OF_LOGS: Final = ("tensorboard/",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedAttempt:
    """An attempt: its public record, and its files as recorded."""

    record: Record
    document: File
    """The file of the record as it was written."""
    files: tuple[File, ...]
    """The other files."""
    drift: int
    """The number of differences of its software from the image or the lock."""

    @classmethod
    def of(cls, record: Record, text: bytes) -> ExportedAttempt:
        """Return the attempt of a record, whose file is `text`. Raise `RunError` if it has not ended."""
        if record.outcome.status is RunStatus.RUNNING:
            message = (
                f"run {record.run} is still running, or its process was killed; only a finished run can be exported"
            )
            hint = f"wait until it ends; if it was killed: `reprise runs publish {record.run} --abandoned`"
            raise RunError(message, hint=hint)
        document = File(path=RECORD, size=len(text), sha256=digest_of_bytes(text))
        drift = {*record.circumstances.drift, *(record.circumstances.drift_at_end or [])}
        files = tuple(record.outcome.files)
        return cls(record=public_record(record), document=document, files=files, drift=len(drift))

    @property
    def folder(self) -> str:
        """The folder of its files, in the run's folder."""
        return f"{ATTEMPTS}/{self.record.attempt}"

    @property
    def inputs(self) -> list[File]:
        """The files that the attempt began with: the initial weights, if they are another run's."""
        return [file for file in self.files if file.path == INITIAL]

    @property
    def logs(self) -> list[File]:
        """The files that describe the training and are no result."""
        return [file for file in self.files if file.path in _LOGS or file.path.startswith(_FOLDERS_OF_LOGS)]

    @property
    def results(self) -> list[File]:
        """The record and all files that are neither inputs nor logs."""
        others = {file.path for file in (*self.inputs, *self.logs)}
        return [self.document, *(file for file in self.files if file.path not in others)]

    @property
    def weights(self) -> File | None:
        """The trained weights; `None` if the attempt has none."""
        return next((file for file in self.files if file.path == WEIGHTS), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRun:
    """A finished run; its last attempt has its results."""

    attempts: tuple[ExportedAttempt, ...]
    source: File | None = None
    """The source bundle; `None` if it is not there, as beside the record of a model package."""

    @property
    def last(self) -> ExportedAttempt:
        """The last attempt."""
        return self.attempts[-1]

    @property
    def record(self) -> Record:
        """The public record of the last attempt."""
        return self.last.record


def run_in_folder(folder: Path) -> ExportedRun:
    """Read the run in a folder. Raise `RunError`, `DocumentError`, `DigestMismatchError`, `UnsafePathError`."""
    paths = [folder / ATTEMPTS / str(number) / RECORD for number in recorded_attempts(folder) or [1]]
    found = [ExportedAttempt.of(load_record(path), read_run_file(path)) for path in paths]
    return ExportedRun(attempts=tuple(found), source=source_of(folder))


def run_in_store(run: str, store: Store) -> ExportedRun:
    """Read a published run without its files. Raise `RunNotFoundError`, `StoreError` and its subclasses, `DocumentError`."""
    sealed_records = list(sealed_attempts(store, run))
    if not sealed_records:
        raise RunNotFoundError(f"run {run} is not in {store.label}", hint="`reprise runs ls` lists the runs in it")
    found = [ExportedAttempt.of(record, sealed.record_text()) for sealed, record in sealed_records]
    return ExportedRun(attempts=tuple(found), source=sealed_records[-1][0].source)


def run_of_record(text: bytes, *, where: str) -> ExportedRun:
    """Return the run of a record alone, such as that of a model package. Raise `DocumentError`, `RunError`."""
    return ExportedRun(attempts=(ExportedAttempt.of(read_record(text, where=where), text),))


def moment(when: datetime) -> str:
    """Return a time as documents state it, to the millisecond: `2026-03-01T12:00:05.000+00:00`."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds")


def ended(record: Record) -> datetime | None:
    """Return when an attempt ended: its start by the wall clock and its duration; `None` if the duration is not recorded."""
    timing = record.circumstances.timing
    return None if timing.seconds is None else timing.started + timedelta(seconds=timing.seconds)


def bare(digest: str) -> str:
    """Return the hexadecimal digits of a digest.

    >>> bare("sha256:00ff")
    '00ff'
    """
    return digest.removeprefix("sha256:")


def text_of(value: object) -> str:
    """Return a JSON value as text, a text as it is.

    >>> text_of("relu"), text_of([1, None]), text_of(True)
    ('relu', '[1,null]', 'true')
    """
    return value if isinstance(value, str) else canonical(value).decode()
