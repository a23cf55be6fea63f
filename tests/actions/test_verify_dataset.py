"""Verifying: a cached dataset is hashed again, and withdrawn when it is not what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.actions.conftest import FILES, Published, contents
from trainer.actions.fetch_dataset import fetch_dataset
from trainer.actions.verify_dataset import verify_dataset
from trainer.errors import AlteredError, DatasetError

if TYPE_CHECKING:
    from pathlib import Path


def fetch(published: Published) -> Path:
    """The dataset's folder in the cache."""
    return fetch_dataset(published.dataset, cache=published.cache, open_store=lambda: published.store)


def test_a_whole_dataset_is_verified(published: Published) -> None:
    """Every file counts."""
    fetch(published)
    assert verify_dataset(published.dataset, cache=published.cache) == len(FILES)


def test_a_flipped_byte_is_found_and_made_right(published: Published) -> None:
    """The file is named, the dataset withdrawn, and the next fetch replaces it."""
    path = fetch(published) / "images/0001.png"
    body = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(body[:100] + b"\xff" + body[101:])
    with pytest.raises(AlteredError, match=r"images/0001\.png"):
        verify_dataset(published.dataset, cache=published.cache)
    assert published.cache.find(published.dataset) is None
    assert contents(fetch(published)) == FILES


@pytest.mark.parametrize("victim", ["files/a.txt", "manifest.jsonl"])
def test_a_file_that_is_gone_is_found(published: Published, victim: str) -> None:
    """A missing file and a missing manifest are damage."""
    path = fetch(published).parent / victim
    path.parent.chmod(0o755)
    path.unlink()
    with pytest.raises(AlteredError, match="damaged"):
        verify_dataset(published.dataset, cache=published.cache)
    assert contents(fetch(published)) == FILES


def test_what_is_not_cached_cannot_be_verified(published: Published) -> None:
    """It is said what to type."""
    with pytest.raises(DatasetError, match="not in the cache") as caught:
        verify_dataset(published.dataset, cache=published.cache)
    assert caught.value.hint == "reprise data fetch small"
