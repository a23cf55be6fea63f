"""A run to export, from a folder or a store: the public records of its attempts, and its files by digest."""

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
    """The file `record.json`."""
    files: tuple[File, ...]
    """The files that the record lists."""
    drift: int
    """The number of differences between the attempt's software and the image or the lock."""

    @classmethod
    def of(cls, record: Record, text: bytes) -> ExportedAttempt:
        """Return the attempt of a record whose file has the bytes `text`. Raise `RunError` if the attempt has not ended."""
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
        """The folder of the attempt's files, relative to the run's folder."""
        return f"{ATTEMPTS}/{self.record.attempt}"

    @property
    def inputs(self) -> list[File]:
        """The files that the attempt began with: the initial weights, if they come from another run."""
        return [file for file in self.files if file.path == INITIAL]

    @property
    def logs(self) -> list[File]:
        """The files that describe the training but are not results."""
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
    """A finished run; the results are those of its last attempt."""

    attempts: tuple[ExportedAttempt, ...]
    source: File | None = None
    """The source bundle; `None` if it is missing, as for the record in a model package."""

    @property
    def last(self) -> ExportedAttempt:
        """The last attempt."""
        return self.attempts[-1]

    @property
    def record(self) -> Record:
        """The public record of the last attempt."""
        return self.last.record


def run_in_folder(folder: Path) -> ExportedRun:
    """Read the run in a folder. Raise `RunError` if it has no record or has not ended, or as `load_record` does."""
    paths = [folder / ATTEMPTS / str(number) / RECORD for number in recorded_attempts(folder) or [1]]
    found = [ExportedAttempt.of(load_record(path), read_run_file(path)) for path in paths]
    return ExportedRun(attempts=tuple(found), source=source_of(folder))


def run_in_store(run: str, store: Store) -> ExportedRun:
    """Read a published run without its files. Raise `RunNotFoundError` if it is not in the store, `StoreError`, `DocumentError`."""
    sealed_records = list(sealed_attempts(store, run))
    if not sealed_records:
        raise RunNotFoundError(f"run {run} is not in {store.label}", hint="`reprise runs ls` lists the runs in it")
    found = [ExportedAttempt.of(record, sealed.record_text()) for sealed, record in sealed_records]
    return ExportedRun(attempts=tuple(found), source=sealed_records[-1][0].source)


def run_of_record(text: bytes, *, where: str) -> ExportedRun:
    """Return a run of which only the record exists, as in a model package. Raise `DocumentError`, or `RunError` if it has not ended."""
    return ExportedRun(attempts=(ExportedAttempt.of(read_record(text, where=where), text),))


def moment(when: datetime) -> str:
    """Format a time for a document, in UTC to the millisecond: `2026-03-01T12:00:05.000+00:00`."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds")


def ended(record: Record) -> datetime | None:
    """Return when an attempt ended: its start by the wall clock plus its duration; `None` if the duration is not recorded."""
    timing = record.circumstances.timing
    return None if timing.seconds is None else timing.started + timedelta(seconds=timing.seconds)


def bare(digest: str) -> str:
    """Return the hexadecimal digits of a digest.

    >>> bare("sha256:00ff")
    '00ff'
    """
    return digest.removeprefix("sha256:")


def text_of(value: object) -> str:
    """Return a JSON value as text; a string is returned unchanged.

    >>> text_of("relu"), text_of([1, None]), text_of(True)
    ('relu', '[1,null]', 'true')
    """
    return value if isinstance(value, str) else canonical(value).decode()
