"""Verifying hashes a cached dataset again; a damaged dataset is then fetched again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES, Published, contents, damage, objects
from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.data.fetch import fetch_dataset, verify_dataset

if TYPE_CHECKING:
    from trainer.data.cache.version import CachedDataset


def fetch(published: Published) -> CachedDataset:
    return fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)


def test_a_whole_dataset_is_verified(published: Published) -> None:
    fetch(published)
    assert verify_dataset(published.dataset, cache=published.cache) == len(FILES)


def test_a_flipped_byte_is_found_and_repaired(published: Published) -> None:
    fetch(published)
    damage(objects(published.cache)[0], at=100)
    with pytest.raises(DigestMismatchError, match=r"images/0001\.png' and 1 more") as caught:
        verify_dataset(published.dataset, cache=published.cache)
    assert caught.value.hint == "replace damaged files: reprise data fetch small"
    assert published.cache.find(published.dataset) is None
    assert contents(fetch(published).folder()) == FILES


def test_an_uncached_dataset_cannot_be_verified(published: Published) -> None:
    with pytest.raises(DatasetError, match="not in the cache") as caught:
        verify_dataset(published.dataset, cache=published.cache)
    assert caught.value.hint == "reprise data fetch small"
