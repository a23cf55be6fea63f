"""Keeping retests beside the run that they are about: here, and in the store where the run is.

Knows where they lie. Refuses to change one that is there: each is written once, under the name of the run that it made.
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
"""Bytes of a retest."""


def keep_retest(folder: Path, retest: Retest, *, evidence: bytes) -> Path:
    """Write a retest and its evidence beside the run in `folder`; the retest last. What root wrote, the run's owner can add to."""
    name = retest.retest.run
    with disk_faults(folder / FOLDER), run_root(folder) as run, run.below(FOLDER, make=True) as place:
        run.give(FOLDER)
        for path, text in ((f"{name}.evidence.json", evidence), (f"{name}.json", retest.to_json())):
            place.write_whole(path, text)
            place.give(path)
    return folder / FOLDER / f"{name}.json"


def publish_retest(retest: Retest, store: Store, *, evidence: bytes) -> None:
    """Bring a retest into the store where its run is. Raises `StoreError` and its kinds; again is as once."""
    store.write(object_key(retest.evidence), evidence, sha256=retest.evidence)
    key = retest_key(retest)
    if not store.create(key, retest.to_json()) and read_small(store, key, largest=_LARGEST) != retest.to_json():
        raise DigestMismatchError(
            f"{key} is in {store.label} with other content", hint="it does not come from a rerun: do not use it"
        )


def push_retests(run: str, *, source: Store, target: Store) -> None:
    """Copy the retests of a run from one store into another. Raises `StoreError` and its kinds."""
    for retest in retests_in_store(run, source):
        publish_retest(retest, target, evidence=read_small(source, object_key(retest.evidence)))


def retests_here(folder: Path) -> list[Retest]:
    """The retests of the run in `folder` that are kept here; one that cannot be read is passed over."""
    found = []
    with suppress(FileNotFoundError), run_root(folder) as run, run.below(FOLDER) as place:
        for name in place.names():
            if name.endswith(".json") and is_run_id(name.removesuffix(".json")):
                with suppress(RepriseError, OSError):
                    text = place.read(name, most=_LARGEST)
                    found.append(read_retest(text, run=folder.name, where=str(place.path / name)))
    return found


def retests_in_store(run: str, store: Store) -> list[Retest]:
    """The retests of a run that others published, by listing: for people to read, nothing rests on it."""
    found = []
    for key in store.keys(f"runs/{run}/{FOLDER}/"):
        if retest_of_key(key):
            try:
                found.append(read_retest(read_small(store, key, largest=_LARGEST), run=run, where=key))
            except RepriseError:
                continue
    return found
