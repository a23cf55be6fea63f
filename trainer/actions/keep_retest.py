"""Keeping retests beside the run that they are about: here, and in the store where the run is.

Knows where they lie. Refuses to change one that is there: each is written once, under the name of the run that it made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.actions.transfer import read_small
from trainer.beneath import run_root
from trainer.errors import AlteredError, RepriseError
from trainer.host.atomic import disk_faults, write_below
from trainer.plain_text import read_bytes
from trainer.record import is_run_id
from trainer.sameness.retest import FOLDER, read_retest, retest_key, retest_of_key
from trainer.store.contract import object_key

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.sameness.retest import Retest
    from trainer.store.contract import Store

_LARGEST = 1 << 20
"""Bytes of a retest."""


def keep_retest(folder: Path, retest: Retest, *, evidence: bytes) -> Path:
    """Write a retest and its evidence beside the run in `folder`; the retest last."""
    with disk_faults(folder / FOLDER), run_root(folder) as run:
        write_below(run, f"{FOLDER}/{retest.retest.run}.evidence.json", evidence)
        write_below(run, path := f"{FOLDER}/{retest.retest.run}.json", retest.to_json())
    return folder / path


def publish_retest(retest: Retest, store: Store, *, evidence: bytes) -> None:
    """Bring a retest into the store where its run is. Raises `StoreError` and its kinds; again is as once."""
    store.write(object_key(retest.evidence), evidence, sha256=retest.evidence)
    key = retest_key(retest)
    if not store.create(key, retest.to_json()) and read_small(store, key, largest=_LARGEST) != retest.to_json():
        raise AlteredError(f"{key} is in {store.label} with other content", hint="it was made up by somebody")


def retests_here(folder: Path) -> list[Retest]:
    """The retests of the run in `folder` that are kept here; one that cannot be read is passed over."""
    found = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        if is_run_id(path.stem):
            try:
                found.append(read_retest(read_bytes(path, most=_LARGEST), run=folder.name, where=str(path)))
            except RepriseError:
                continue
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
