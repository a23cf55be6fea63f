"""Inspections beside a cached version: reused for the same reader and splits, repeated otherwise, and never required."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.data.cache.folder import Cache
from trainer.data.cache.inspections import cached_inspection
from trainer.data.declaration import Dataset
from trainer.data.inspection import Inspection, SplitValues

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = f"sha256:{64 * '0'}"
DATASET = Dataset(
    name="d", version=1, manifest=DIGEST, content=DIGEST, files=1, bytes=1, splits={"train": (0, 2), "val": (2, 3)}
)
SEEN = Inspection(splits={"train": SplitValues(samples=2), "val": SplitValues(samples=1)})


def cache_of(root: Path) -> Cache:
    cache = Cache(root=root)
    cache.place(DATASET).mkdir(parents=True)
    return cache


def test_a_saved_inspection_is_reused_until_reader_or_splits_change(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    assert cached_inspection(DATASET, cache).read() is None
    assert cached_inspection(DATASET, cache).write(SEEN)
    assert cached_inspection(DATASET.model_copy(update={"license": "CC0"}), cache).read() == SEEN
    assert cached_inspection(DATASET.model_copy(update={"splits": {"train": (0, 3)}}), cache).read() is None


def test_a_damaged_inspection_is_repeated(tmp_path: Path) -> None:
    kept = cached_inspection(DATASET, cache_of(tmp_path))
    kept.path.write_text('{"format": "reprise.inspection/0"}')
    assert kept.read() is None
    assert kept.write(SEEN)
    assert kept.read() == SEEN


def test_a_read_only_cache_saves_no_inspection(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path)
    cache.place(DATASET).parent.mkdir(parents=True)
    cache.place(DATASET).touch()
    kept = cached_inspection(DATASET, cache)
    assert (kept.write(SEEN), kept.read()) == (False, None)
