"""Lending a dataset to recorded code: a store of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES
from trainer.base.errors import DigestMismatchError
from trainer.data.cache.folder import MANIFEST, Cache
from trainer.data.fetch import fetch_dataset
from trainer.data.lend import lend_dataset
from trainer.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.data.conftest import Published


def test_what_was_lent_is_fetched_from_there(published: Published, tmp_path: Path) -> None:
    """Any version's fetch finds manifest and packs, and verifies what it takes."""
    dataset, cache, lent = published.dataset, published.cache, tmp_path / "lent"
    found = fetch_dataset(dataset, cache=cache, open_store=lambda: published.store)
    lend_dataset(found, (cache.place(dataset) / MANIFEST).read_bytes(), into=lent)
    there = fetch_dataset(dataset, cache=Cache(root=tmp_path / "own"), open_store=lambda: DirectoryStore(lent))
    assert {path: bytes(there.read(path)) for path in there.paths} == FILES


def test_a_manifest_that_is_damaged_is_not_lent(published: Published, tmp_path: Path) -> None:
    """Nothing is handed on that is not what its digest says."""
    found = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)
    with pytest.raises(DigestMismatchError, match="is damaged in the cache"):
        lend_dataset(found, b"{}", into=tmp_path / "lent")
