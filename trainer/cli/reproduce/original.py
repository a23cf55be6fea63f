"""The run that is meant: here, in a folder somewhere, or in the store, from where it is pulled.

Knows where a run can be. Refuses to believe more of it than pulling has verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.errors import RunNotFoundError, StoreUnreachableError
from trainer.cli.latest import named
from trainer.cli.places import is_folder, runs_folder, store_address, store_at, typed_folder
from trainer.cli.progress import transfer_progress
from trainer.runs.list import local_ids, remote_ids
from trainer.runs.names import full_run_id, resolve_run
from trainer.runs.pull import pull_run
from trainer.runs.run import ATTEMPTS, read_publication, record_of

if TYPE_CHECKING:
    from trainer.runs.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A run on this machine's disk."""

    record: Record
    folder: Path
    published: bool
    """Whether it is in a store, so that others would look for its retests there."""


def original(word: str) -> Original:
    """The run that `word` names, brought here if it is in the store alone. Raises `RunNotFoundError`, `StoreError`."""
    folder = _folder(word)
    record = record_of(folder)
    there = read_publication(folder / ATTEMPTS / str(record.attempt)) is not None
    return Original(record=record, folder=folder, published=there)


def _folder(word: str) -> Path:
    given = Path(word)
    if word and is_folder(given / ATTEMPTS):
        return typed_folder(given)
    runs = runs_folder()
    try:
        return runs / named(word, local_ids(runs))
    except RunNotFoundError as fault:
        address = store_address()
        if address is None:
            raise
        not_here = fault
    store = store_at(address)
    try:
        run = full_run_id(word) or resolve_run(word, remote_ids(store))
        pull_run(run, store, runs=runs, progress=transfer_progress("pulling"))
    except StoreUnreachableError as away:
        raise RunNotFoundError(f"{not_here.message} on this machine, and {away.message}", hint=away.hint) from away
    return runs / run
