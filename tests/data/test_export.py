"""A cached dataset is exported as a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES
from trainer.base.errors import DigestMismatchError
from trainer.data.cache.folder import MANIFEST, Cache
from trainer.data.fetch import fetch_dataset
from trainer.data.versions import export_dataset
from trainer.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.data.conftest import Published


def test_an_exported_dataset_can_be_fetched(published: Published, tmp_path: Path) -> None:
    dataset, cache, folder = published.dataset, published.cache, tmp_path / "exported"
    cached = fetch_dataset(dataset, cache=cache, open_store=lambda: published.store)
    export_dataset(cached, (cache.place(dataset) / MANIFEST).read_bytes(), into=folder)
    fetched = fetch_dataset(dataset, cache=Cache(root=tmp_path / "own"), open_store=lambda: DirectoryStore(folder))
    assert {path: bytes(fetched.read(path)) for path in fetched.paths} == FILES


def test_a_damaged_manifest_is_not_exported(published: Published, tmp_path: Path) -> None:
    cached = fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)
    with pytest.raises(DigestMismatchError, match="is damaged in the cache"):
        export_dataset(cached, b"{}", into=tmp_path / "exported")
