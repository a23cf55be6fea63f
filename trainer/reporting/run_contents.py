"""Load the content of a report about a run: its record, logs, figures, code, retests and certificates.

A missing or damaged file becomes a note instead of an error. All values are untrusted, since a record may come from another user.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DocumentError, RepriseError, UnsafePathError
from trainer.base.run_files import open_run_file, read_run_file, read_run_json
from trainer.comparison.certificate import FOLDER as CERTIFICATES
from trainer.comparison.certificate import read_certificate
from trainer.comparison.compare import ComparedRun, load_compared_run
from trainer.comparison.retest import local_retests
from trainer.comparison.saved_document import read_files
from trainer.comparison.trace import FILE as TRACE
from trainer.reporting.curves import LARGEST, TELEMETRY, read_curves, read_schedule, read_telemetry
from trainer.runs.figure import FILE as FIGURES
from trainer.runs.figure import Figures, PictureFigure
from trainer.runs.list import local_run
from trainer.runs.open_run import is_alive
from trainer.runs.record import RunStatus
from trainer.runs.verify import altered_files
from trainer.source.capture import ARCHIVE, read_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.base.file_entry import File
    from trainer.comparison.certificate import Statement
    from trainer.comparison.retest import Retest
    from trainer.reporting.curves import Curves
    from trainer.runs.figure import Figure
    from trainer.runs.record import Record

METRICS: Final = "metrics.jsonl"
_LARGEST: Final = 1 << 24
"""The maximum size of a document or picture in bytes."""
_CODE: Final = 200_000
"""The maximum number of characters of an experiment's module that are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCertificate:
    """A certificate in a run's folder; its signature is not verified."""

    file: str
    statement: Statement
    signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContents:
    """The content of a report about a run."""

    compared: ComparedRun
    earlier: tuple[Record, ...] = ()
    """The records of earlier attempts, in order."""
    died: bool = False
    """Whether the record has status `running`, but the process has ended."""
    metrics: Curves = field(default_factory=dict)
    schedule: Curves = field(default_factory=dict)
    """The learning rate and the gradient norm at each step."""
    telemetry: Curves = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    pictures: dict[str, bytes] = field(default_factory=dict)
    """The content of each picture file of `figures`, by name."""
    code: tuple[str, str] | None = None
    """The path and text of the experiment's module."""
    retests: tuple[Retest, ...] = ()
    certificates: tuple[FoundCertificate, ...] = ()
    notes: tuple[str, ...] = ()


def load_run_contents(folder: Path) -> RunContents:
    """Load the content of a report from a run's folder. Raise as `load_compared_run` does if the record cannot be read."""
    run = load_compared_run(folder)
    if run.attempt is None or run.folder is None:
        return RunContents(compared=run)
    attempt, notes = run.attempt, _undrawn(run.attempt)
    altered = altered_files(attempt, [file for file in run.record.outcome.files if _is_shown(file)])
    notes += [f"{fault}, so it is not shown" for fault in altered.values()]
    figures = Figures() if FIGURES in altered else _figures(attempt / FIGURES, notes)
    last = run.record.attempt - (TELEMETRY in altered)
    attempts = local_run(run.folder.parent, run.folder.name).records
    return RunContents(
        compared=run,
        earlier=tuple(each for each in attempts if each.attempt < run.record.attempt),
        died=run.record.outcome.status is RunStatus.RUNNING and not is_alive(attempt),
        metrics={} if METRICS in altered else read_curves(attempt / METRICS),
        schedule={} if TRACE in altered else read_schedule(attempt / TRACE),
        telemetry=read_telemetry(attempt.parent / str(number) for number in range(1, last + 1)),
        figures=figures.figures,
        pictures={name: body for name, body in _pictures(attempt, figures) if name not in altered},
        code=_code(run, notes),
        retests=tuple(local_retests(run.folder)),
        certificates=tuple(_certificates(run.folder, notes)),
        notes=tuple(notes),
    )


def _is_shown(file: File) -> bool:
    """Return whether the report may show the file: a log with curves, the list of figures, or a picture."""
    return file.size <= LARGEST and (file.path in {METRICS, TRACE, TELEMETRY, FIGURES} or file.path.endswith(".png"))


def _undrawn(attempt: Path) -> list[str]:
    notes: list[str] = []
    for name in (METRICS, TRACE, TELEMETRY):
        with _noted(notes, name), suppress(FileNotFoundError), open_run_file(attempt / name) as file:
            if (size := os.fstat(file.fileno()).st_size) > LARGEST:
                limit = f"at most {LARGEST:,} bytes are read"
                notes.append(f"{name} has {size:,} bytes, so its curves are not drawn: {limit}")
    return notes


@contextmanager
def _noted(notes: list[str], what: str) -> Iterator[None]:
    try:
        yield
    except RepriseError as fault:
        notes.append(f"{what}: {fault.message}")
    except OSError as fault:
        notes.append(f"{what} cannot be read: {fault.strerror}")


def _figures(path: Path, notes: list[str]) -> Figures:
    with _noted(notes, FIGURES):
        if path.exists():
            return read_run_json(path, Figures, most=_LARGEST)
    return Figures()


def _pictures(attempt: Path, figures: Figures) -> Iterator[tuple[str, bytes]]:
    for name in {figure.file for figure in figures.figures if isinstance(figure, PictureFigure)}:
        with suppress(DocumentError, UnsafePathError):
            yield name, read_run_file(attempt / name, most=_LARGEST)


def _code(run: ComparedRun, notes: list[str]) -> tuple[str, str] | None:
    path, text = f"trainer/experiments/{run.record.ingredients.experiment}.py", None
    if run.folder is None or not (run.folder / ARCHIVE).is_file():
        return None
    with _noted(notes, ARCHIVE):
        bundle = read_archive(run.folder / ARCHIVE)
        if bundle.digest == run.record.ingredients.source:
            text = next((file.data for file in bundle.files if file.path == path), None)
        else:
            notes.append(
                f"{ARCHIVE} is the source {bundle.digest}; the record names another source, so its code is not shown"
            )
    return None if text is None else (path, text.decode(errors="replace")[:_CODE])


def _certificates(folder: Path, notes: list[str]) -> list[FoundCertificate]:
    def read(text: bytes, path: str) -> FoundCertificate:
        statement, signers = read_certificate(text, path)
        return FoundCertificate(file=f"{CERTIFICATES}/{Path(path).name}", statement=statement, signed=bool(signers))

    def note(name: str, fault: RepriseError) -> None:
        notes.append(f"{CERTIFICATES}/{name}: {fault.message}")

    certificates = read_files(folder, CERTIFICATES, read, most=_LARGEST, on_fault=note)
    return [each for each in certificates if folder.name in each.statement.runs]
