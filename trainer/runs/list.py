"""Which runs there are: on this machine, in the store, or in both.

Knows how the two are told apart: a local attempt is published if its seal is in the store; if no store was asked, its note says so.
Refuses to fail for one bad run: what cannot be read is listed with the reason. The store's listing is for people; no
decision rests on it.
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
from trainer.runs.record import RUN_ID, Record, Status, is_run_id
from trainer.runs.run import ATTEMPTS, RECORD, attempts, is_alive, load_record, published, record_of, recorded
from trainer.runs.seal import read_sealed, sealed_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from trainer.stores.contract import Store

_SEALED: Final = re.compile(rf"runs/({RUN_ID.pattern})/attempts/([1-9][0-9]{{0,3}})/sealed\.json")
_AT_ONCE: Final = 16
_EARLIER: Final = 100
"""Attempts before the last one that are read of a run in the store."""


class Where(StrEnum):
    """Where a run is."""

    LOCAL = "local only"
    PUBLISHED = "published"
    OTHER = "other store"
    """Here, and published in a store that is not the one that was asked."""
    REMOTE = "remote only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A run, by its highest attempt."""

    run: str
    where: Where
    attempt: int
    record: Record | None
    store: str | None = None
    """Where it was published, as far as that is known here."""
    died: bool = False
    """Its record says `running`, and its process is gone."""
    fault: str | None = None
    """Why there is no record."""
    earlier: tuple[Record, ...] = ()
    """Of the attempts before, in order; one that has none, or none that can be read, is left out."""

    @property
    def records(self) -> tuple[Record, ...]:
        """Of all attempts, in order."""
        return self.earlier if self.record is None else (*self.earlier, self.record)


def local_ids(runs: Path) -> list[str]:
    """The ids of the runs on this machine, in order."""
    if not runs.is_dir():
        return []
    with Root.at(runs) as here:
        return [name for name in here.names() if is_run_id(name) and _may_hold_attempts(here, name)]


def _may_hold_attempts(runs: Root, name: str) -> bool:
    """Whether there are attempts in a run's folder, or this user cannot look: `local_run` says so. A link to a run is none."""
    try:
        return runs.has_folder(name) and runs.stat(f"{name}/{ATTEMPTS}") is not None
    except OSError:
        return True


def remote_ids(store: Store) -> dict[str, int]:
    """The runs in a store, each with its highest sealed attempt. Raises `StoreError` and its kinds."""
    found: dict[str, int] = {}
    for key in store.keys("runs/"):
        if match := _SEALED.fullmatch(key):
            found[match[1]] = max(found.get(match[1], 0), int(match[2]))
    return found


def local_run(runs: Path, run: str, *, asked: Store | None = None, remote: Mapping[str, int] | None = None) -> Listed:
    """A run on this machine; `remote` is what is in the store that was asked."""
    try:
        return _local_run(runs, run, asked=asked, remote=remote or {})
    except OSError as failure:
        fault = f"{failure.filename} cannot be read: {failure.strerror}"
    except UnsafePathError as failure:
        fault = failure.message
    return Listed(run=run, where=Where.LOCAL, attempt=1, record=None, fault=fault)


def _local_run(runs: Path, run: str, *, asked: Store | None, remote: Mapping[str, int]) -> Listed:
    numbers = recorded(runs / run) or attempts(runs / run)
    number = max(numbers, default=1)
    place = runs / run / ATTEMPTS / str(number)
    store = None
    try:
        note = published(place)
        store = note.store if note else None
        record: Record | None = load_record(place / RECORD)
        fault = None
    except RepriseError as failure:
        record, fault = None, failure.message
    return Listed(
        run=run,
        where=_where(store, asked, is_there=remote.get(run, 0) >= number),
        attempt=number,
        record=record,
        store=store,
        died=record is not None and record.outcome.status is Status.RUNNING and not is_alive(place),
        fault=fault,
        earlier=_readable(partial(record_of, runs / run, earlier) for earlier in numbers[:-1]),
    )


def _where(noted: str | None, asked: Store | None, *, is_there: bool) -> Where:
    if is_there or (asked is None and noted):
        return Where.PUBLISHED
    return Where.OTHER if noted and asked is not None and noted != asked.label else Where.LOCAL


def remote_run(store: Store, run: str, attempt: int) -> Listed:
    """A run that is in the store and not here."""
    try:
        record = _sealed(store, run, attempt)
    except RepriseError as failure:
        fault = failure.message
        return Listed(run=run, where=Where.REMOTE, attempt=attempt, record=None, store=store.label, fault=fault)
    numbers = [number for number in _sealed_numbers(store, run) if number < attempt] if attempt > 1 else []
    earlier = _readable(partial(_sealed, store, run, number) for number in numbers[-_EARLIER:])
    where, address = Where.REMOTE, store.label
    return Listed(run=run, where=where, attempt=attempt, record=record, store=address, earlier=earlier)


def _sealed_numbers(store: Store, run: str) -> list[int]:
    keys = store.keys(f"runs/{run}/attempts/")
    return sorted(int(match[2]) for key in keys if (match := _SEALED.fullmatch(key)))


def _sealed(store: Store, run: str, attempt: int) -> Record:
    key = sealed_key(run, attempt)
    return read_sealed(read_small(store, key), run=run, attempt=attempt, where=f"{key} in {store.label}")[1]


def _readable(readers: Iterable[Callable[[], Record]]) -> tuple[Record, ...]:
    found: list[Record] = []
    for reader in readers:
        with suppress(RepriseError):
            found.append(reader())
    return tuple(found)


def list_runs(runs: Path, *, store: Store | None = None, most: int | None = None) -> list[Listed]:
    """The runs here and in `store`, latest first, at most `most` of them. Raises `StoreError` where the store is away."""
    remote = remote_ids(store) if store else {}
    here = set(local_ids(runs))
    ids = sorted(here | set(remote), reverse=True)[:most]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda run: _listed(run, store, runs, here=here, remote=remote), ids))


def _listed(run: str, store: Store | None, runs: Path, *, here: set[str], remote: dict[str, int]) -> Listed:
    if store is None or run in here:
        return local_run(runs, run, asked=store, remote=remote)
    return remote_run(store, run, remote[run])


def unpublished(rows: Iterable[Listed], store: Store) -> list[str]:
    """The runs of this machine that are over and, as far as is known here, not in `store`."""
    over = [row for row in rows if row.where is not Where.REMOTE and row.store != store.label and row.record]
    return [row.run for row in over if row.record and row.record.outcome.status is not Status.RUNNING]
