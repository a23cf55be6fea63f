"""Reading a version from the cache: each process verifies each byte before it uses it."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import Published, damage, fill, objects
from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.safe_folder import Root
from trainer.data.cache import version as versions
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import SourceFolder
from trainer.data.packing import PACK_BYTES
from trainer.data.publish import publish_dataset
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.version import CachedDataset

TAIL = 5000
BIG = bytes(range(251)) * ((PACK_BYTES + TAIL) // 251 + 1)
BIG = BIG[: PACK_BYTES + TAIL]
SMALL = {"a.txt": b"first", "b.txt": b"second", "empty": b""}


@pytest.fixture(scope="module")
def published_dataset(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Return a dataset with a file in two parts and three small files, which is published once."""
    folder = tmp_path_factory.mktemp("version")
    store, source = MemoryStore(), SourceFolder(root=fill(folder / "source", {"big": BIG, **SMALL}))
    dataset = publish_dataset(Draft(name="mixed"), source=source, store=store).dataset
    return Published(store=store, dataset=dataset, source=source, cache=Cache(root=folder / "cache"))


@pytest.fixture
def files(published_dataset: Published, tmp_path: Path) -> CachedDataset:
    cache = Cache(root=tmp_path / "cache")
    return fetch_dataset(published_dataset.dataset, cache=cache, open_store=lambda: published_dataset.store)


def large_object(files: CachedDataset) -> Path:
    return next(path for path in objects(files._cache) if path.stat().st_size == len(BIG))


def small_object(files: CachedDataset) -> Path:
    return next(path for path in objects(files._cache) if path.stat().st_size < PACK_BYTES)


def test_files_are_read_as_published(files: CachedDataset) -> None:
    assert {path: bytes(files.read(path)) for path in SMALL} == SMALL
    assert bytes(files.read("big")) == BIG
    assert bytes(files.view("a.txt")) == b"first"
    assert list(files.paths) == ["a.txt", "b.txt", "big", "empty"]


def test_an_unknown_file_is_named_with_a_suggestion(files: CachedDataset) -> None:
    with pytest.raises(DatasetError, match=r"mixed@1 has no file 'a\.tx'") as caught:
        files.read("a.tx")
    assert "a.txt" in str(caught.value.hint)


def test_a_small_file_is_verified_as_a_whole(files: CachedDataset) -> None:
    damage(small_object(files))
    with pytest.raises(DigestMismatchError, match=r"mixed@1 is damaged in the cache: a\.txt") as caught:
        files.require("a.txt", 4, 5)
    assert caught.value.hint == versions.RETRY
    assert bytes(files.read("b.txt")) == b"second"


def test_only_the_touched_parts_of_a_large_file_are_verified(files: CachedDataset) -> None:
    damage(large_object(files), at=PACK_BYTES + 1)
    files.require("big", 0, PACK_BYTES)
    for start, stop in ((PACK_BYTES - 1, PACK_BYTES + 1), (PACK_BYTES, len(BIG)), (0, None)):
        with pytest.raises(DigestMismatchError, match="damaged in the cache: big"):
            files.require("big", start, stop)
    with pytest.raises(DigestMismatchError, match="damaged in the cache: big"):
        files.read("big")


def test_the_first_part_is_verified_from_its_first_byte(files: CachedDataset) -> None:
    damage(large_object(files))
    files.require("big", PACK_BYTES, len(BIG))
    with pytest.raises(DigestMismatchError):
        files.require("big", 0, 1)


def test_bytes_are_verified_once_in_a_process(files: CachedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    check = versions.CachedDataset._check

    def counting(self: CachedDataset, entry: object, view: memoryview, expected: str) -> None:
        hashed.append(len(view))
        check(self, entry, view, expected)  # type: ignore[arg-type]

    monkeypatch.setattr(versions.CachedDataset, "_check", counting)
    for _ in range(2):
        files.read("a.txt")
        files.require("a.txt")
        files.require("big", 1, 2)
        files.require("big", PACK_BYTES, PACK_BYTES)
        files.read("big")
    assert hashed == [5, PACK_BYTES, TAIL]


def test_the_hashed_pages_of_a_large_file_are_released(files: CachedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[tuple[int, int]] = []
    monkeypatch.setattr(versions, "release_pages", lambda _, start, end: released.append((start, end)))
    files.require("big")
    files.require("a.txt")
    assert released == [(0, PACK_BYTES), (PACK_BYTES, len(BIG))]


def test_only_a_large_verified_file_is_linked(files: CachedDataset, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    with Root.at(tmp_path / "links") as links:
        assert files.link("a.txt", to=links, new="a") is False
        assert files.link("big", to=links, new="big") is True
        assert files.link("big", to=links, new="big") is False  # the system rejects a second link of this name
        assert (tmp_path / "links/big").samefile(large_object(files))
    damage(large_object(files))
    fresh = pickle.loads(pickle.dumps(files))  # noqa: S301 - pickled by this test
    (tmp_path / "more").mkdir()
    with Root.at(tmp_path / "more") as more, pytest.raises(DigestMismatchError):
        fresh.link("big", to=more, new="big")
    assert not list((tmp_path / "more").iterdir())


def test_memory_maps_are_reused_and_the_least_recently_used_is_dropped(
    files: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MAPS", 2)
    small = files.read("a.txt")
    files.view("big")
    names = list(files._maps)
    files._maps["other"] = files._maps.pop(names[1])  # the map of another object
    files.read("b.txt")
    assert list(files._maps) == ["other", names[0]]
    files.view("big")
    assert list(files._maps) == names
    assert bytes(small) == b"first"


def test_a_missing_object_is_reported_and_verified_at_the_next_start(files: CachedDataset) -> None:
    small_object(files).unlink()
    with pytest.raises(DigestMismatchError, match=r"damaged in the cache: a\.txt"):
        files.read("a.txt")
    assert files._cache.find(files.dataset) is None


def test_a_reader_that_cannot_write_is_an_error_with_hints(
    files: CachedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "mark_suspect", lambda *_: False)
    damage(small_object(files))
    with pytest.raises(DigestMismatchError) as caught:
        files.read("a.txt")
    assert "set REPRISE_CACHE to another folder" in str(caught.value.hint)
    assert "reprise data verify mixed" in str(caught.value.hint)


def test_a_version_is_pickled_by_name_and_opened_again(files: CachedDataset) -> None:
    files.read("a.txt")
    text = pickle.dumps(files)
    assert bytes(pickle.loads(text).read("b.txt")) == b"second"  # noqa: S301 - pickled by this test
    damage(small_object(files))
    with pytest.raises(DigestMismatchError):
        pickle.loads(text).read("a.txt")  # noqa: S301 - pickled by this test
    with pytest.raises(DigestMismatchError, match=r"mixed@1 is no longer complete in the cache .*cache") as caught:
        pickle.loads(text)  # noqa: S301 - pickled by this test
    assert caught.value.hint == versions.RETRY
