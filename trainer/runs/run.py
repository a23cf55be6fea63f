"""A run's folder on this machine: create it, and read its attempts and their records.

`open_run` writes the record of an attempt.

    runs/<id>/source.tar.gz, source/             the frozen source
    runs/<id>/submission/                        the job of a run that was submitted to a cluster
    runs/<id>/attempts/<n>/claim.json            the owner of the attempt
    runs/<id>/attempts/<n>/record.json           the record
    runs/<id>/attempts/<n>/...                   metrics, checkpoints, weights
    runs/<id>/attempts/<n>/published.json        the note of publication, once the attempt is in the store
    runs/<id>/attempts/<n>/.snapshot.json        the snapshot from the store, if the attempt was pulled while it ran elsewhere
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trainer.base import run_files
from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_bytes
from trainer.base.document import read_json_below
from trainer.base.errors import DigestMismatchError, RunError, UnsafePathError
from trainer.base.plain_text import reading
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import Root, run_root
from trainer.runs.record import Record, read_record
from trainer.runs.run_id import new_run_id
from trainer.runs.seal import SMALL, Published

if TYPE_CHECKING:
    from pathlib import Path

ATTEMPTS: Final = run_files.ATTEMPTS
RECORD: Final = "record.json"
CLAIM: Final = "claim.json"
PUBLISHED: Final = "published.json"
SNAPSHOT: Final = ".snapshot.json"
SUBMISSION: Final = "submission"
"""The name of the folder, in a run's folder, with the job that was submitted to a cluster: `trainer.sites.slurm`."""


def new_run(runs: Path) -> tuple[str, Path]:
    """Create the folder of a new run below `runs`; return its ID and path. Raise `NotWritableError`, `DiskFullError`."""
    with disk_faults(runs), Root.at(runs, make=True) as root:
        while True:
            name = new_run_id()
            with suppress(FileExistsError):
                root.mkdir(name)
                return name, runs / name


def abandon(folder: Path) -> None:
    """Remove the folder of a run, unless an attempt has a record or the run was submitted to a cluster, whose job writes into it."""
    with suppress(OSError, UnsafePathError), Root.at(folder.parent) as runs:
        if runs.stat(f"{folder.name}/{SUBMISSION}") is not None:
            return
        with suppress(FileNotFoundError), runs.below(f"{folder.name}/{ATTEMPTS}") as attempts_folder:
            if any(
                attempts_folder.stat(f"{name}/{RECORD}")
                for name in attempts_folder.names()
                if attempts_folder.has_folder(name)
            ):
                return
        runs.remove_tree(folder.name)


def attempts(folder: Path) -> list[int]:
    """Return the numbers of the run's attempts, found by probing 1, 2, ... Raise `UnsafePathError` if an attempt is not a folder."""
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
    """Return the numbers of the attempts that have a record; an attempt that was killed while it was opened has no record."""
    with suppress(FileNotFoundError, NotADirectoryError), run_root(folder) as run:
        return [number for number in _attempts(run) if run.stat(f"{ATTEMPTS}/{number}/{RECORD}") is not None]
    return []


def pulled_snapshots(folder: Path) -> list[int]:
    """Return the numbers of the attempts that were pulled while they ran elsewhere: they are not closed or published here."""
    with suppress(FileNotFoundError, NotADirectoryError), run_root(folder) as run:
        return [number for number in _attempts(run) if run.stat(f"{ATTEMPTS}/{number}/{SNAPSHOT}") is not None]
    return []


def record_of(folder: Path, attempt: int | None = None) -> Record:
    """Return the record of an attempt, by default of the last recorded attempt. Raise as `load_record` does."""
    recorded = recorded_attempts(folder)
    path = folder / ATTEMPTS / str(attempt or (recorded[-1] if recorded else 1)) / RECORD
    return load_record(path)


def load_record(path: Path) -> Record:
    """Return the record in a file, in an attempt's folder or elsewhere.

    Raise `RunError` if the file does not exist, `DigestMismatchError` if it was changed after publication, `DocumentError` if it is
    invalid, `UnsafePathError` if it is a link.
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
    """Return the note of the attempt's publication; `None` if it does not exist. Raise `DocumentError` if it is invalid."""
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
