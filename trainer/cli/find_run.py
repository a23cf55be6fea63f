"""Finds the run that a command names, on this machine or in the store, and pulls it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.errors import RunNotFoundError, StoreUnreachableError
from trainer.cli.configuration import is_folder, runs_folder, store_address, store_at, typed_folder
from trainer.cli.latest import named
from trainer.cli.progress import transfer_progress
from trainer.runs.list import local_ids, remote_ids
from trainer.runs.names import full_run_id, resolve_run
from trainer.runs.pull import pull_run
from trainer.runs.run import ATTEMPTS, read_publication, record_of

if TYPE_CHECKING:
    from trainer.runs.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """A run on this machine's disk."""

    record: Record
    folder: Path
    published: bool
    """Whether the run is in a store; its retests are then published."""


def find_run(word: str) -> FoundRun:
    """Return the run that `word` names; pull it if it is in the store only. Raise `RunNotFoundError`, `StoreError`."""
    folder = _folder(word)
    record = record_of(folder)
    there = read_publication(folder / ATTEMPTS / str(record.attempt)) is not None
    return FoundRun(record=record, folder=folder, published=there)


def _folder(word: str) -> Path:
    if word and is_folder(Path(word) / ATTEMPTS):
        return typed_folder(Path(word))
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
