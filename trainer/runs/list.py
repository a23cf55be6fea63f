"""Listing the runs on this machine and in a store.

A local attempt counts as published if its seal is in the store or, without a store, if it has a note of publication. A run that cannot be
read is listed with the reason. Lists of runs are for display only.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from trainer.base.errors import RepriseError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.runs.open_run import is_alive
from trainer.runs.record import Record, RunStatus
from trainer.runs.run import (
    ATTEMPTS,
    RECORD,
    attempts,
    load_record,
    pulled_snapshots,
    read_publication,
    record_of,
    recorded_attempts,
)
from trainer.runs.run_id import RUN_ID, is_run_id
from trainer.runs.seal import read_sealed, sealed_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from trainer.stores.contract import Store

_SEALED: Final = re.compile(rf"runs/({RUN_ID.pattern})/attempts/([1-9][0-9]{{0,3}})/sealed\.json")
_SNAPSHOT: Final = re.compile(rf"runs/({RUN_ID.pattern})/attempts/[1-9][0-9]{{0,3}}/snapshots/[1-9][0-9]*\.json")
_THREADS: Final = 16
_EARLIER: Final = 100
"""The maximum number of earlier attempts that are read of a run in the store."""


class RunLocation(StrEnum):
    """Where a run is: on this machine, in a store, or both."""

    LOCAL = "local only"
    PUBLISHED = "published"
    OTHER = "other store"
    """On this machine, and published to another store."""
    REMOTE = "remote only"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run in a list; its fields describe the last attempt."""

    run: str
    location: RunLocation
    attempt: int
    record: Record | None
    store: str | None = None
    """The store to which the run was published; `None` if it is unknown."""
    died: bool = False
    """Whether the record has status `running`, but the process has ended."""
    fault: str | None = None
    """Why the record cannot be read."""
    earlier: tuple[Record, ...] = ()
    """The readable records of earlier attempts, in order."""

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of all attempts, in order."""
        return self.earlier if self.record is None else (*self.earlier, self.record)


def local_ids(runs: Path) -> list[str]:
    """Return the IDs of the runs on this machine, sorted."""
    if not runs.is_dir():
        return []
    with Root.at(runs) as folder:
        return [name for name in folder.names() if is_run_id(name) and _has_attempts(folder, name)]


def _has_attempts(runs: Root, name: str) -> bool:
    """Return whether a run's folder has attempts or cannot be read, which `local_run` reports. A link is not a run."""
    try:
        return runs.has_folder(name) and runs.stat(f"{name}/{ATTEMPTS}") is not None
    except OSError:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRuns:
    """The runs in a store."""

    sealed: dict[str, int]
    """The published runs, each with its last sealed attempt."""
    unsealed: list[str]
    """The sorted runs of which only checkpoints were published: they train on another machine, or were lost with it."""


def stored_runs(store: Store) -> StoredRuns:
    """Return the runs in a store. Raise `StoreError` and its subclasses."""
    last_attempts: dict[str, int] = {}
    snapshots: set[str] = set()
    for key in store.keys("runs/"):
        if match := _SEALED.fullmatch(key):
            last_attempts[match[1]] = max(last_attempts.get(match[1], 0), int(match[2]))
        elif match := _SNAPSHOT.fullmatch(key):
            snapshots.add(match[1])
    return StoredRuns(sealed=last_attempts, unsealed=sorted(snapshots - last_attempts.keys()))


def remote_ids(store: Store) -> dict[str, int]:
    """Return the published runs in a store, each with its last sealed attempt. Raise `StoreError` and its subclasses."""
    return stored_runs(store).sealed


def local_run(
    runs: Path, run: str, *, store: Store | None = None, remote: Mapping[str, int] | None = None
) -> ListedRun:
    """Describe a run on this machine; `remote` holds the runs in `store`."""
    try:
        return _local_run(runs, run, target=store, remote=remote or {})
    except OSError as failure:
        fault = f"{failure.filename} cannot be read: {failure.strerror}"
    except UnsafePathError as failure:
        fault = failure.message
    return ListedRun(run=run, location=RunLocation.LOCAL, attempt=1, record=None, fault=fault)


def _local_run(runs: Path, run: str, *, target: Store | None, remote: Mapping[str, int]) -> ListedRun:
    numbers = recorded_attempts(runs / run) or attempts(runs / run)
    number = max(numbers, default=1)
    attempt = runs / run / ATTEMPTS / str(number)
    store = None
    try:
        note = read_publication(attempt)
        store = note.store if note else None
        record: Record | None = load_record(attempt / RECORD)
        fault = None
    except RepriseError as failure:
        record, fault = None, failure.message
    return ListedRun(
        run=run,
        location=_location(store, target, is_in_store=remote.get(run, 0) >= number),
        attempt=number,
        record=record,
        store=store,
        died=record is not None
        and record.outcome.status is RunStatus.RUNNING
        and number not in pulled_snapshots(runs / run)  # it runs, or ran, on another machine
        and not is_alive(attempt),
        fault=fault,
        earlier=_readable(partial(record_of, runs / run, earlier) for earlier in numbers[:-1]),
    )


def _location(published_to: str | None, store: Store | None, *, is_in_store: bool) -> RunLocation:
    if is_in_store or (store is None and published_to):
        return RunLocation.PUBLISHED
    return (
        RunLocation.OTHER if published_to and store is not None and published_to != store.label else RunLocation.LOCAL
    )


def remote_run(store: Store, run: str, attempt: int) -> ListedRun:
    """Describe a run that is only in the store; `attempt` is its last sealed attempt."""
    try:
        record = _sealed(store, run, attempt)
    except RepriseError as failure:
        fault = failure.message
        return ListedRun(
            run=run, location=RunLocation.REMOTE, attempt=attempt, record=None, store=store.label, fault=fault
        )
    numbers = [number for number in _sealed_numbers(store, run) if number < attempt] if attempt > 1 else []
    earlier = _readable(partial(_sealed, store, run, number) for number in numbers[-_EARLIER:])
    location, address = RunLocation.REMOTE, store.label
    return ListedRun(run=run, location=location, attempt=attempt, record=record, store=address, earlier=earlier)


def _sealed_numbers(store: Store, run: str) -> list[int]:
    keys = store.keys(f"runs/{run}/attempts/")
    return sorted(int(match[2]) for key in keys if (match := _SEALED.fullmatch(key)))


def _sealed(store: Store, run: str, attempt: int) -> Record:
    key = sealed_key(run, attempt)
    return read_sealed(read_small(store, key), run=run, attempt=attempt, where=f"{key} in {store.label}")[1]


def _readable(readers: Iterable[Callable[[], Record]]) -> tuple[Record, ...]:
    records: list[Record] = []
    for reader in readers:
        with suppress(RepriseError):
            records.append(reader())
    return tuple(records)


def list_runs(
    runs: Path, *, store: Store | None = None, remote: dict[str, int] | None = None, limit: int | None = None
) -> list[ListedRun]:
    """List the runs on this machine and in `store`, newest first, at most `limit`. Raise `StoreError` if the store is unreachable.

    `remote` are the published runs in the store, if they are known.
    """
    remote = remote_ids(store) if store and remote is None else remote or {}
    local = set(local_ids(runs))
    ids = sorted(local | set(remote), reverse=True)[:limit]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda run: _listed(run, store, runs, local=local, remote=remote), ids))


def _listed(run: str, store: Store | None, runs: Path, *, local: set[str], remote: dict[str, int]) -> ListedRun:
    if store is None or run in local:
        return local_run(runs, run, store=store, remote=remote)
    return remote_run(store, run, remote[run])


def unpublished(rows: Iterable[ListedRun], store: Store) -> list[str]:
    """Return the IDs of the finished runs on this machine that were not published to `store`."""
    finished = [
        row for row in rows if row.location is not RunLocation.REMOTE and row.store != store.label and row.record
    ]
    return [row.run for row in finished if row.record and row.record.outcome.status is not RunStatus.RUNNING]
