"""Store retests next to the original run: in its local folder, and in the store that contains the run.

Each retest is written once, under the name of its new run, and never changed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError, RepriseError
from trainer.base.safe_folder import run_root
from trainer.comparison.retest import FOLDER, read_retest, retest_key, retest_of_key
from trainer.runs.record import is_run_id
from trainer.stores.contract import object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.comparison.retest import Retest
    from trainer.stores.contract import Store

_LARGEST = 1 << 20
"""The largest retest in bytes."""


def keep_retest(folder: Path, retest: Retest, *, evidence: bytes) -> Path:
    """Write a retest's evidence, then the retest, into the run's `folder`. Files written by root are given to the run's owner."""
    name = retest.retest.run
    with disk_faults(folder / FOLDER), run_root(folder) as run, run.below(FOLDER, make=True) as place:
        run.give(FOLDER)
        for path, text in ((f"{name}.evidence.json", evidence), (f"{name}.json", retest.to_json())):
            place.write_whole(path, text)
            place.give(path)
    return folder / FOLDER / f"{name}.json"


def publish_retest(retest: Retest, store: Store, *, evidence: bytes) -> None:
    """Write a retest into the store that contains its run; idempotent. Raise `StoreError` and its subclasses."""
    store.write(object_key(retest.evidence), evidence, sha256=retest.evidence)
    key = retest_key(retest)
    if not store.create(key, retest.to_json()) and read_small(store, key, largest=_LARGEST) != retest.to_json():
        raise DigestMismatchError(
            f"{key} is in {store.label} with other content", hint="it does not come from a rerun: do not use it"
        )


def push_retests(run: str, *, source: Store, target: Store) -> None:
    """Copy the retests of a run from one store into another. Raise `StoreError` and its subclasses."""
    for retest in retests_in_store(run, source):
        publish_retest(retest, target, evidence=read_small(source, object_key(retest.evidence)))


def retests_here(folder: Path) -> list[Retest]:
    """Return the local retests of the run in `folder`; unreadable retests are skipped."""
    found = []
    with suppress(FileNotFoundError), run_root(folder) as run, run.below(FOLDER) as place:
        for name in place.names():
            if name.endswith(".json") and is_run_id(name.removesuffix(".json")):
                with suppress(RepriseError, OSError):
                    text = place.read(name, most=_LARGEST)
                    found.append(read_retest(text, run=folder.name, where=str(place.path / name)))
    return found


def retests_in_store(run: str, store: Store) -> list[Retest]:
    """Return the published retests of a run, by listing the store. The list is for display only."""
    found = []
    for key in store.keys(f"runs/{run}/{FOLDER}/"):
        if retest_of_key(key):
            try:
                found.append(read_retest(read_small(store, key, largest=_LARGEST), run=run, where=key))
            except RepriseError:
                continue
    return found
