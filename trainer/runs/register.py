"""The register of the user's own attempts: `runs/.own-<uid>/`, with a file for each attempt that this user's processes opened.

A run's folder cannot prove that the run's code is the user's own: it may come from a store, and the code that runs in it writes to it. The
register is beside the runs, since the code of a retest or of another user's run can access only its run's folder. An entry counts if it
belongs to this user, to root, or to the user of this checkout's containers, and agrees with the claim and the record of its attempt.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import Digest, digest_of_bytes
from trainer.base.document import Document, parse_json
from trainer.base.errors import NotWritableError, RepriseError, RunError
from trainer.base.safe_folder import Root
from trainer.runs.open_run import claim_of
from trainer.runs.run import ATTEMPTS, CLAIM, RECORD, load_record, recorded_attempts
from trainer.runs.seal import read_claim

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from trainer.runs.record import Record

_FOLDER: Final = ".own-"
_LARGEST: Final = 4096
_ROOT: Final = 0


class RegisterEntry(Document):
    """An entry of the register: an attempt that the user's process opened, or the frozen source of the user's sweep."""

    format: Literal["reprise.own/1"] = "reprise.own/1"
    token: Digest
    """The digest of the claim's run, attempt and token."""
    identity: Digest
    source: Digest


def entry_of(attempt: Path, record: Record) -> RegisterEntry:
    """Return the register's entry for an attempt. Raise `RepriseError` if the claim is missing or cannot be read."""
    if (text := claim_of(attempt)) is None:
        raise RunError(
            f"{attempt / CLAIM} does not exist", hint="the attempt counts as that of another user or machine"
        )
    claim = read_claim(text, where=str(attempt / CLAIM))
    token = digest_of_bytes(f"{claim.run} {claim.attempt} {claim.token}".encode())
    return RegisterEntry(token=token, identity=claim.identity, source=record.ingredients.source)


def register(name: str, entry: RegisterEntry, *, runs: Path) -> None:
    """Write an entry for this user. Raise `MachineError` on failure; the attempt then counts as that of another user or machine."""
    user = os.getuid()
    folder = runs / f"{_FOLDER}{user}"
    with disk_faults(folder), _opened(folder, owners={user}, make=True) as opened:
        opened.write_whole(f"{name}.json", entry.model_dump_json().encode() + b"\n")


def register_attempt(attempt: Path) -> None:
    """Register an attempt. Raise `RepriseError` or `OSError` if its claim or record cannot be read, or the entry cannot be written."""
    run = attempt.parents[1]
    register(_name(run, attempt.name), entry_of(attempt, load_record(attempt / RECORD)), runs=run.parent)


def has_entry(name: str, entry: RegisterEntry, *, runs: Path, users: Collection[int]) -> bool:
    """Return whether the register of one of `users`, or of root, has `entry` under `name`."""
    return any(_read(runs / f"{_FOLDER}{user}", name, owners={_ROOT, *users}) == entry for user in {_ROOT, *users})


def is_own(attempt: Path, *, runs: Path, users: Collection[int]) -> bool:
    """Return whether a process of root or of one of `users` opened this attempt on this machine."""
    run = attempt.parents[1]
    if run.resolve().parent != runs.resolve():
        return False
    try:
        record = load_record(attempt / RECORD)
        entry = entry_of(attempt, record)
    except (RepriseError, OSError):
        return False
    name = _name(run, attempt.name)
    is_placed = (record.run, str(record.attempt), record.identity) == (run.name, attempt.name, entry.identity)
    return is_placed and has_entry(name, entry, runs=runs, users=users)


def own_attempts(run: Path, *, runs: Path, users: Collection[int]) -> list[int]:
    """Return the numbers of a run's recorded attempts that root or one of `users` owns."""
    return [each for each in recorded_attempts(run) if is_own(run / ATTEMPTS / str(each), runs=runs, users=users)]


def _name(run: Path, attempt: str) -> str:
    return f"{run.name}-{attempt}"


@contextmanager
def _opened(folder: Path, *, owners: Collection[int], make: bool = False) -> Iterator[Root]:
    """Open a folder of the register; `make` creates it if missing. Raise `NotWritableError` if it belongs to none of `owners`."""
    with Root.at(folder.parent) as runs:
        if make:
            with suppress(FileExistsError):
                runs.mkdir(folder.name, mode=0o755)
        with runs.below(folder.name) as opened:
            if (owner := os.fstat(opened.fileno()).st_uid) not in owners:
                message = f"{folder} belongs to user {owner}; expected {' or '.join(map(str, sorted(owners)))}"
                raise NotWritableError(
                    message, hint="ask its owner to remove it, or keep runs in your own folder: REPRISE_RUNS=DIR"
                )
            yield opened


def _read(folder: Path, name: str, *, owners: Collection[int]) -> RegisterEntry | None:
    try:
        with _opened(folder, owners=owners) as opened, opened.open(f"{name}.json") as file:
            if os.fstat(file.fileno()).st_uid not in owners:
                return None
            return parse_json(file.read(_LARGEST), RegisterEntry, where=f"{folder}/{name}.json")
    except (OSError, RepriseError):
        return None
