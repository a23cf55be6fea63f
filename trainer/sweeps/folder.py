"""A sweep's folder `runs/sweeps/<id>/`: create, find and lock it, and read the state of its points.

The state of a point is read from the record of its run, so a killed process leaves no stale state. This module starts no process.

    sweep.json          the frozen inputs, and the runs of the points
    source.tar.gz       the frozen source; source/ is the unpacked copy, in which the processes of points start
    settings/           the settings files, if the command named any
    logs/<n>.txt        the output of the processes of point n; a process holds a lock on the log while it is alive
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical
from trainer.base.document import read_json_below
from trainer.base.errors import RepriseError, RunError, RunNotFoundError, UsageError
from trainer.base.plain_text import reading
from trainer.base.safe_folder import Root, run_root
from trainer.runs.names import LATEST
from trainer.runs.open_run import is_alive
from trainer.runs.record import RunStatus
from trainer.runs.run import ATTEMPTS, record_of, recorded_attempts
from trainer.runs.run_id import is_run_id
from trainer.source.capture import ARCHIVE, COPY, SOURCE_DESCRIPTION, archive, unpack
from trainer.source.copy import open_to_all
from trainer.sweeps.document import FILE, FOLDER, Point, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.comparison.noise import RequestedRun
    from trainer.runs.record import Record
    from trainer.source.capture import SourceBundle

LOGS: Final = "logs"
_LOCK: Final = "lock"


class PointState(StrEnum):
    """The state of a point."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    """The run ended before it was complete, and can be resumed."""
    FAILED = "failed"
    FINISHED = "finished"


_STANDINGS: Final = {RunStatus.COMPLETED: PointState.FINISHED, RunStatus.FAILED: PointState.FAILED}


def create_sweep_folder(sweep: Sweep, bundle: SourceBundle, *, runs: Path) -> Path:
    """Create the sweep's folder with the frozen source, the settings files and the document; return its path.

    Raise `DiskFullError`, `NotWritableError`.
    """
    folder = runs / FOLDER / sweep.id
    with disk_faults(folder), Root.at(runs, make=True) as root:
        for path in (FOLDER, f"{FOLDER}/{sweep.id}", f"{FOLDER}/{sweep.id}/{LOGS}"):
            with suppress(FileExistsError):
                root.mkdir(path)
                root.give(path)
        with root.below(f"{FOLDER}/{sweep.id}") as place:
            place.write_whole(ARCHIVE, archive(bundle))
            unpack(bundle, place, COPY)
            place.below(f"{COPY}/runs", make=True).close()  # the mount point of the runs folder in a container
            open_to_all(place, COPY)
            _write_settings(sweep, place)
    save(sweep, folder)
    return folder


def sweep_root(folder: Path) -> Root:
    """Open a sweep's folder, `runs/sweeps/<id>`. Raise `OSError`, `UnsafePathError`."""
    folder = folder.absolute()
    with run_root(folder.parent) as sweeps:
        return sweeps.below(folder.name)


def save(sweep: Sweep, folder: Path) -> None:
    """Write the sweep's document atomically."""
    with disk_faults(folder), sweep_root(folder) as place:
        place.write_whole(FILE, sweep.to_json())
        place.give(FILE)


def load(folder: Path) -> Sweep:
    """Read the sweep's document. Raise `DocumentError` if it is missing or invalid."""
    with reading(folder / FILE), sweep_root(folder) as place:
        return read_json_below(place, FILE, Sweep)


def sweep_ids(runs: Path) -> list[str]:
    """Return the IDs of the local sweeps that have a document, in order."""
    with suppress(FileNotFoundError), run_root(runs / FOLDER) as sweeps:
        return [
            name
            for name in sweeps.names()
            if is_run_id(name) and sweeps.has_folder(name) and sweeps.stat(f"{name}/{FILE}")
        ]
    return []


def resolve_sweep(word: str, ids: Sequence[str]) -> str:
    """Return the sweep ID for `word`: an ID, the start of an ID, a folder, or `latest`.

    Raise `RunNotFoundError` if no ID matches, `UsageError` if several IDs match.
    """
    if word == LATEST and ids:
        return ids[-1]
    found = [name for name in ids if name.startswith(word.rstrip("/").rpartition("/")[2])]
    if len(found) > 1:
        raise UsageError(
            f"{word!r} matches {len(found)} sweeps: {', '.join(found[-3:])}", hint="type more characters of the ID"
        )
    if not found and not ids:
        raise RunNotFoundError(f"no sweep is called {word!r}", hint="start a sweep: `reprise sweep digits --seed 1..5`")
    if not found:
        raise RunNotFoundError(f"no sweep is called {word!r}", hint=f"use the latest sweep: {ids[-1]}")
    return found[0]


def find_earlier_sweep(digest: str, *, runs: Path) -> Sweep | None:
    """Return the latest local sweep whose request has `digest`; unreadable sweeps are skipped."""
    for name in reversed(sweep_ids(runs)):
        with suppress(RepriseError):
            found = load(runs / FOLDER / name)
            if found.asked.digest == digest:
                return found
    return None


@contextmanager
def lock_sweep(folder: Path) -> Iterator[None]:
    """Hold the sweep's lock, which the system releases when the process ends. Raise `RunError` if another process holds it."""
    with disk_faults(folder), sweep_root(folder) as place:
        handle = place.handle(_LOCK, os.O_RDWR | os.O_CREAT, mode=0o644)
    try:
        if not _locked(handle):
            message = f"another process is running sweep {folder.name}"
            raise RunError(message, hint="wait until it ends, or stop it")
        yield
    finally:
        os.close(handle)


@contextmanager
def log_of(folder: Path, number: int) -> Iterator[int]:
    """Open a point's log to append to it, and lock it; every process that inherits the descriptor holds the lock."""
    with disk_faults(folder), sweep_root(folder) as place:
        handle = place.handle(_log(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode=0o644)
    try:
        _locked(handle)
        yield handle
    finally:
        os.close(handle)


def is_written(folder: Path, number: int) -> bool:
    """Return whether a process of the point is alive, whichever process started it."""
    try:
        with sweep_root(folder) as place:
            handle = place.handle(_log(number), os.O_WRONLY)
    except FileNotFoundError:
        return False
    try:
        return not _locked(handle)
    finally:
        os.close(handle)


def _log(number: int) -> str:
    return f"{LOGS}/{number + 1}.txt"


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def record_at(point: Point, *, runs: Path) -> Record | None:
    """Return the record of the point's last run; `None` if there is no run or its record cannot be read."""
    if point.run is None:
        return None
    with suppress(RepriseError):
        return record_of(runs / point.run)
    return None


def unreadable(point: Point, *, runs: Path) -> str | None:
    """Return why the record of the point's last run cannot be read; `None` if it can be read or does not exist yet."""
    try:
        if point.run is not None and recorded_attempts(runs / point.run):
            record_of(runs / point.run)
    except (RepriseError, OSError) as fault:
        return str(fault)
    return None


def point_state(sweep: Sweep, number: int, *, runs: Path) -> PointState:
    """Return a point's state, from its processes and its run's record."""
    run = sweep.points[number].run
    if is_written(runs / FOLDER / sweep.id, number):
        return PointState.RUNNING
    if run is None:
        return PointState.WAITING
    if not (known := recorded_attempts(runs / run)):
        return PointState.FAILED if sweep.points[number].code else PointState.WAITING
    record = record_at(sweep.points[number], runs=runs)
    status = record.outcome.status if record else RunStatus.FAILED
    if status is RunStatus.RUNNING and is_alive(runs / run / ATTEMPTS / str(known[-1])):
        return PointState.RUNNING
    return _STANDINGS.get(status, PointState.STOPPED)


def point_states(sweep: Sweep, *, runs: Path) -> list[PointState]:
    """Return the states of all points."""
    return [point_state(sweep, number, runs=runs) for number in range(len(sweep.points))]


def equal_run(
    wanted: RequestedRun, records: Sequence[Record], *, layers: Sequence[str] | None, accelerator: str
) -> str | None:
    """Return the ID of the first completed run in `records` with the requested source and settings, these layers and this accelerator."""
    for record in records:
        mine = record.ingredients
        if (
            record.outcome.status is RunStatus.COMPLETED
            and mine.layers == (None if layers is None else list(layers))
            and mine.device.accelerator == accelerator
            and wanted.matches(record)
        ):
            return record.run
    return None


def prepare(sweep: Sweep, run: Path, *, runs: Path) -> None:
    """Write the frozen source and the settings files into a new run's folder, for its launcher."""
    with disk_faults(run), sweep_root(runs / FOLDER / sweep.id) as place, run_root(run) as new:
        with place.open(ARCHIVE) as frozen, new.create(ARCHIVE) as copy:
            shutil.copyfileobj(frozen, copy)
        new.write_whole(SOURCE_DESCRIPTION, canonical(sweep.captured.model_dump(mode="json")))
        _write_settings(sweep, new)


def _write_settings(sweep: Sweep, folder: Root) -> None:
    """Write the settings files into the folder of the sweep or of a new run."""
    for path, text in sweep.asked.settings_files.items():
        with folder.create(path, make=True) as copy:
            copy.write(text.encode())
