"""Finds the run that a command names, on this machine or in the store; `latest` is the newest run that the user trained on this machine.

`latest` skips runs of `reproduce`, `certify` and `noise`, runs from another user or machine, runs in the store only, unreadable runs, runs
with a date in the future, and runs that failed before their first step. The skipped runs are reported on stderr. Nothing is reported if
`latest` is the newest run and completed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import RunNotFoundError, StoreError, StoreUnreachableError
from trainer.cli.configuration import is_folder, runs_folder, store_address, store_at, typed_folder
from trainer.cli.progress import transfer_progress
from trainer.cli.run_page import status
from trainer.cli.trust import own_attempts_of
from trainer.runs.attempts import failed_before_first_step
from trainer.runs.list import local_ids, local_run, stored_runs
from trainer.runs.names import LATEST, full_run_id, resolve_run, start_time
from trainer.runs.pull import pull_later, pull_run
from trainer.runs.record import RunStatus
from trainer.runs.run import ATTEMPTS, read_publication, record_of
from trainer.runs.run_id import is_run_id

if TYPE_CHECKING:
    from collections.abc import Collection

    from trainer.runs.record import Record
    from trainer.stores.contract import Store

_AHEAD: Final = timedelta(days=1)
"""How far another machine's clock may be ahead of this machine's."""
_NAMED: Final = 3
"""Maximum number of skipped runs that are named."""
RUN_HELP: Final = "run: ID, start of an ID, `latest`, or folder"
"""The help text of an argument that names a run."""
STORED_RUN_HELP: Final = "run: ID, start of an ID, or `latest`"
"""The help text of an argument that names a run of the store."""


def find_run_id(word: str, known: Collection[str]) -> str:
    """Return the ID among `known` that `word` names.

    If `word` is `latest`, report the run on stderr unless it is the newest run and completed. Raise `RunNotFoundError` if no ID matches,
    `UsageError` if several IDs match.
    """
    run = resolve_run(word, known, passed=lambda each: bool(_skip_reason(each)))
    if word == LATEST and (description := _description(run, sorted(each_run for each_run in known if each_run > run))):
        print(f"latest is {description}", file=sys.stderr)
    return run


def _skip_reason(run: str) -> str | None:
    """Return why `latest` skips a run; `None` for a run that the user trained here."""
    folder = runs_folder() / run
    listed = local_run(runs_folder(), run)
    for is_skipped, reason in (
        (start_time(run) > datetime.now(UTC) + _AHEAD, "date in the future: a clock was wrong"),
        (not folder.is_dir(), "in the store only"),
        ((record := listed.record) is None, status(listed)),
    ):
        if is_skipped:
            return reason
    if record is None:
        return None
    circumstances = record.circumstances
    if circumstances.retest_of:
        return f"rerun of {circumstances.retest_of}"
    if circumstances.purpose:
        return f"made by {circumstances.purpose}"
    if not own_attempts_of(folder):
        return "from another user or machine"
    return "failed before its first step" if failed_before_first_step(record) else None


def _description(run: str, newer: Collection[str]) -> str:
    """Describe `latest` if it is not the newest run or did not complete; else return an empty string."""
    reason, listed = _skip_reason(run), local_run(runs_folder(), run)
    completed = listed.record is not None and listed.record.outcome.status is RunStatus.COMPLETED
    if completed and not newer and reason is None:
        return ""
    state = reason or status(listed)
    skipped = [f"{each} ({_skip_reason(each)})" for each in list(newer)[-_NAMED:]]
    others = f" and {len(newer) - _NAMED} older ones" if len(newer) > _NAMED else ""
    return f"run {run} ({state})" + (f"; skipped: {', '.join(skipped)}{others}" if skipped else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOnDisk:
    """A run on this machine's disk."""

    record: Record
    folder: Path
    published: bool
    """Whether the run is published. If it is, its retests are also published."""


def find_run(word: str) -> RunOnDisk:
    """Return the run that `word` names; pull it if it is in the store only.

    Raise `RunNotFoundError` if the run is not found, `StoreError` if the store fails, `UsageError` if several runs match.
    """
    folder = _folder(word)
    record = record_of(folder)
    is_published = read_publication(folder / ATTEMPTS / str(record.attempt)) is not None
    return RunOnDisk(record=record, folder=folder, published=is_published)


def _folder(word: str) -> Path:
    if word and is_folder(Path(word) / ATTEMPTS):
        return typed_folder(Path(word))
    runs = runs_folder()
    try:
        return runs / find_run_id(word, local_ids(runs))
    except RunNotFoundError as fault:
        if store_address() is None:
            raise
        missing = fault
    try:
        return find_published_run(word)
    except StoreUnreachableError as unreachable:
        raise RunNotFoundError(
            f"{missing.message} on this machine, and {unreachable.message}", hint=unreachable.hint
        ) from unreachable


def find_published_run(word: str) -> Path:
    """Pull the run that `word` names from the store, and return its folder.

    Raise `RunNotFoundError` if no store is configured or the run is not in it, `StoreError` if the store fails.
    """
    runs, address = runs_folder(), store_address()
    if address is None:
        raise RunNotFoundError(f"no run is called {word!r}, and no store is configured", hint="reprise runs ls")
    store = store_at(address)
    run = stored_run_id(word, store)
    pull_run(run, store, runs=runs, progress=transfer_progress("pulling"))
    return runs / run


def stored_run_id(word: str, store: Store) -> str:
    """Return the ID of the run in the store that `word` names; `latest` is a published run.

    Raise `RunNotFoundError` if no run matches, `StoreError` if the store fails, `UsageError` if several runs match.
    """
    if run := full_run_id(word):
        return run
    found = stored_runs(store)
    return resolve_run(word, found.sealed if word == LATEST else {*found.sealed, *found.unsealed})


def pull_later_attempts(folder: Path) -> None:
    """Pull the attempts that other machines added to a run of this machine; print a line on stderr if the store fails."""
    address = store_address()
    if address is None or not is_run_id(folder.name):
        return
    try:
        pull_later(folder, store_at(address), progress=transfer_progress("pulling"))
    except StoreError as fault:
        print(f"not searching for attempts on other machines: {fault.message}", file=sys.stderr)
