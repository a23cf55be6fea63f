"""One run on this machine: its folder, its attempt, its record from open to close.

Knows how a run's folder is laid out and when its record is written: at open, at each change, at close, each time
whole or not at all. Refuses to know what is trained, and to let ingredients change once the run is open.

    runs/<id>/source.tar.gz, source/             what runs, frozen
    runs/<id>/attempts/<n>/claim.json            whose attempt it is
    runs/<id>/attempts/<n>/record.json           the record
    runs/<id>/attempts/<n>/...                   metrics, checkpoints, weights
    runs/<id>/attempts/<n>/published.json        once it is in the store
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from trainer.beneath import Root, run_root
from trainer.digest import digest_of_bytes, digest_of_file
from trainer.document import parse_json, read_json
from trainer.errors import AlteredError, DiskFullError, ResumeError, RunError, UnsafePathError
from trainer.host.atomic import disk_faults
from trainer.paths import path_fault
from trainer.plain_text import read_bytes
from trainer.record import (
    Circumstances,
    File,
    Ingredients,
    Outcome,
    Record,
    Status,
    identity_of,
    new_run_id,
    read_record,
)
from trainer.redaction import REDACTOR
from trainer.seal import MOST_FILES, SMALL, Claim, Published, read_claim

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTEMPTS: Final = "attempts"
RECORD: Final = "record.json"
CLAIM: Final = "claim.json"
PUBLISHED: Final = "published.json"
_RESERVE: Final = ".reserve"
_RESERVED: Final = 1 << 20
"""Bytes kept back, so that a run that filled the disk can still write how it ended: three times a large record."""
_NOT_RESULTS: Final = frozenset({RECORD, CLAIM, PUBLISHED, _RESERVE})


def new_run(runs: Path) -> tuple[str, Path]:
    """Make the folder of a new run below `runs`, and name it: the first thing that can fail.

    Raises `NotWritableError` or `DiskFullError`.
    """
    with disk_faults(runs):
        runs.mkdir(parents=True, exist_ok=True)
        while True:
            name = new_run_id()
            with suppress(FileExistsError):
                (runs / name).mkdir()
                return name, runs / name


def abandon(folder: Path) -> None:
    """Remove the folder of a run that failed before its record was open; one that has an attempt is kept."""
    if not list(folder.glob(f"{ATTEMPTS}/*/{RECORD}")):
        shutil.rmtree(folder, ignore_errors=True)


def attempts(folder: Path) -> list[int]:
    """The attempts of the run in `folder`, found by probing 1, 2, ...; a link to a folder is none."""
    found: list[int] = []
    place = folder / ATTEMPTS
    while _is_folder(place / str(len(found) + 1)) and not place.is_symlink():
        found.append(len(found) + 1)
    return found


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


@contextmanager
def attempt_root(attempt: Path) -> Iterator[Root]:
    """Hold the folder of an attempt. Raises `OSError`; `UnsafePathError` for a link in place of a folder."""
    with run_root(attempt.parents[1]) as run, run.below(f"{ATTEMPTS}/{attempt.name}") as place:
        yield place


def write_in_attempt(attempt: Path, path: str, data: bytes) -> None:
    """Write a file of an attempt, whole or not at all. Raises `MachineError` and its kinds."""
    with disk_faults(attempt / path), attempt_root(attempt) as place:
        place.write_whole(path, data)


def recorded(folder: Path) -> list[int]:
    """The attempts that have a record: one that was killed as it began has none, and counts as an attempt nevertheless."""
    return [number for number in attempts(folder) if (folder / ATTEMPTS / str(number) / RECORD).exists()]


def record_of(folder: Path, attempt: int | None = None) -> Record:
    """The record of an attempt, by default the last that has one. Raises `DocumentError`, or `RunError` where there is none."""
    known = recorded(folder)
    path = folder / ATTEMPTS / str(attempt or (known[-1] if known else 1)) / RECORD
    return load_record(path)


def load_record(path: Path) -> Record:
    """The record in a file. Raises `DocumentError`, and `AlteredError` for a record that was changed after its publication."""
    if not os.path.lexists(path):
        raise RunError(f"{path} cannot be read: it does not exist", hint="the run ended before its record was open")
    text = read_bytes(path)
    _require_as_published(path, text)
    return read_record(text, where=str(path))


def published(attempt: Path) -> Published | None:
    """Where the attempt in this folder was published; None if it was not, or the note is no file. Raises `DocumentError`."""
    path = attempt / PUBLISHED
    return read_json(path, Published, most=SMALL) if path.is_file() else None


def _require_as_published(path: Path, text: bytes) -> None:
    note = published(path.parent)
    if note is None or note.record is None or note.record == (found := digest_of_bytes(text)):
        return
    said = f"{path} was changed after the run was published to {note.store}: published was {note.record[:19]}.., found {found[:19]}.."
    raise AlteredError(said, hint=f"`reprise runs pull {path.parents[2].name}` restores the published record")


@dataclass(slots=True, kw_only=True)
class OpenRun:
    """A run that is under way: the folder to write into, and its record as it was last written."""

    folder: Path
    """The attempt's: `runs/<id>/attempts/<n>`."""
    record: Record
    lifeline: int | None = None
    """An open file, locked while this process lives; only `is_alive` looks at it."""

    def update(self, *, outcome: Outcome | None = None, circumstances: Circumstances | None = None) -> None:
        """Write the record anew with what has changed. Where that fails, the last good one stays."""
        changed = {
            "outcome": outcome or self.record.outcome,
            "circumstances": circumstances or self.record.circumstances,
        }
        record = _redacted(self.record.model_copy(update=changed))
        write_in_attempt(self.folder, RECORD, record.to_json())
        self.record = record

    def close(self, outcome: Outcome, *, circumstances: Circumstances | None = None) -> Record:
        """Write how the run ended, with every file by digest.

        A full disk does not stop it: space for this was kept back. Raises `RunError` if there are more files than a record can list.
        """
        if outcome.status is Status.RUNNING:
            raise RunError("a run cannot be closed as running", hint="this is a bug in Reprise")
        files = files_of(self.folder)
        whole = outcome.model_copy(update={"files": files[:MOST_FILES]})
        with disk_faults(self.folder), attempt_root(self.folder) as place:
            place.unlink(_RESERVE, missing_ok=True)
        try:
            self.update(outcome=whole, circumstances=circumstances)
        except DiskFullError as fault:
            said = (
                f"the record of run {self.record.run} could not be closed: {fault.message}; the last one written stands"
            )
            raise DiskFullError(said, hint=fault.hint) from fault
        self.let_go()
        if len(files) > MOST_FILES:
            said = f"run {self.record.run} has {len(files):,} files; its record lists the first {MOST_FILES:,}"
            raise RunError(said, hint="write fewer and larger files; the others are neither verified nor published")
        return self.record

    def withdraw(self) -> None:
        """Remove the attempt, which turned out to be none before its first step; and the run, if it was its only one."""
        self.let_go()
        shutil.rmtree(self.folder, ignore_errors=True)
        abandon(self.folder.parents[1])

    def let_go(self) -> None:
        """Show that this process has nothing more to do with the run."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None


def open_run(folder: Path, *, ingredients: Ingredients, circumstances: Circumstances) -> OpenRun:
    """Claim the next attempt of the run in `folder` and write its record, status `running`.

    Two at once get two attempts or one refusal, never one folder. Raises `RunError` where an earlier attempt had other
    ingredients, `ResumeError` where somebody else begins the same attempt, `DiskFullError`, `NotWritableError`.
    """
    identity = identity_of(ingredients)
    earlier = attempts(folder)
    if (known := _identity(folder, earlier)) not in {None, identity}:
        said = f"run {folder.name} is {known}; found {identity}: its ingredients have changed"
        raise RunError(said, hint="start a new run")
    number = len(earlier) + 1
    place = folder / ATTEMPTS / str(number)
    _claim(place)
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
    mine = Claim(run=record.run, attempt=number, identity=identity, host=circumstances.host.name, token=token_hex(16))
    write_in_attempt(place, CLAIM, mine.to_json())
    opened = OpenRun(folder=place, record=record, lifeline=_lifeline(place))
    try:
        _reserve(place / _RESERVE)
        write_in_attempt(place, RECORD, record.to_json())
    except BaseException:
        opened.let_go()
        raise
    return opened


def _redacted(record: Record) -> Record:
    """The record without values of secrets, in all that its identity does not depend on."""
    changed: dict[str, Outcome | Circumstances] = {}
    for name, part in (("circumstances", record.circumstances), ("outcome", record.outcome)):
        text = part.model_dump_json()
        if (clean := REDACTOR.redact(text)) != text:
            changed[name] = parse_json(clean, type(part), where="the record")
    return record.model_copy(update=changed) if changed else record


def is_alive(attempt: Path) -> bool:
    """Tell whether the process that opened this attempt still lives, for people to read: nothing that must be right asks.

    Where the file system or another machine keeps the lock from being seen, an attempt counts as alive.
    """
    try:
        with attempt_root(attempt) as place:
            handle = place.handle(CLAIM, os.O_RDONLY)
    except (OSError, UnsafePathError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def close_dead(attempt: Path, *, here: str) -> Record:
    """Close the record of an attempt whose process was killed: `interrupted`, with the files that it left.

    `here` is this host's name: whether a process of another host lives cannot be seen from this one. Raises `RunError`.
    """
    owner = _owner(attempt)
    if owner not in {None, here}:
        run = attempt.parent.parent.name
        said = f"attempt {attempt.name} of run {run} was begun on host {owner}; this is {here}"
        hint = (
            f"type it there; where that host is gone for good: REPRISE_HOST={owner} reprise runs publish {run} --dead"
        )
        raise RunError(said, hint=hint)
    if is_alive(attempt):
        raise RunError(
            f"run {attempt.parent.parent.name} is alive: its process holds its claim",
            hint="stop it, or wait for its end",
        )
    opened = OpenRun(folder=attempt, record=load_record(attempt / RECORD))
    left = opened.record.outcome.model_copy(update={"status": Status.INTERRUPTED, "reason": _KILLED})
    return opened.close(left)


_KILLED: Final = "its process ended without closing the record"


def _owner(attempt: Path) -> str | None:
    """The host that claimed an attempt; None where it was killed before the claim was written."""
    path = attempt / CLAIM
    return read_claim(read_bytes(path, most=SMALL), where=str(path)).host if path.exists() else None


def _identity(folder: Path, earlier: list[int]) -> str | None:
    """The identity that the run's attempts share; one that was killed before its record was open says nothing."""
    paths = [folder / ATTEMPTS / str(number) / RECORD for number in earlier]
    return next((load_record(path).identity for path in paths if path.exists()), None)


def files_of(attempt: Path) -> list[File]:
    """The files of an attempt, by path; links and half-written files are not among them."""
    return [_file(attempt, path) for path in sorted(_results(attempt))]


def _results(attempt: Path) -> Iterator[str]:
    for here, _, names in os.walk(attempt):
        below = Path(here).relative_to(attempt)
        for name in names:
            path = (below / name).as_posix()
            kept = path not in _NOT_RESULTS and not name.endswith(".partial") and not path_fault(path)
            if kept and stat.S_ISREG((attempt / path).lstat().st_mode):
                yield path


def _file(attempt: Path, path: str) -> File:
    return File(path=path, size=(attempt / path).stat().st_size, sha256=digest_of_file(attempt / path))


def _claim(place: Path) -> None:
    with disk_faults(place), run_root(place.parents[1]) as run, run.below(ATTEMPTS, make=True) as numbers:
        try:
            numbers.mkdir(place.name)
        except FileExistsError as fault:
            owner = _owner(place)
            said = f"attempt {place.name} of run {place.parent.parent.name} was begun at this moment"
            raise ResumeError(
                f"{said} {f'on host {owner}' if owner else 'by somebody else'}", hint="wait for it to end"
            ) from fault


def _lifeline(place: Path) -> int | None:
    """Hold a lock for as long as this process lives; the system lets it go, however it ends."""
    handle = os.open(place / CLAIM, os.O_RDONLY)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _reserve(path: Path) -> None:
    """Keep space back; real bytes, since a sparse or a compressed file keeps none."""
    with disk_faults(path):
        path.write_bytes(os.urandom(_RESERVED))
