"""A file is fetched in parts: parts of an interrupted fetch are not fetched again, and are verified before use."""

from __future__ import annotations

from dataclasses import replace
from threading import Semaphore
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import Published, contents, damage, fill, leftovers, objects
from tests.stores import fakes
from trainer.base import parallel
from trainer.base.errors import DigestMismatchError, StoreUnreachableError
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Draft
from trainer.data.fetch import fetch_dataset
from trainer.data.files import SourceFolder
from trainer.data.packing import PACK_BYTES
from trainer.data.publish import publish_dataset
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.stores.contract import Store

BODY = bytes(range(251)) * (2 * PACK_BYTES // 251 + 9)


@pytest.fixture(scope="module")
def published_large(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Return a dataset with a file in three parts and a small file, which is published once; the tests only read it."""
    folder = tmp_path_factory.mktemp("large")
    store, source = MemoryStore(), SourceFolder(root=fill(folder / "source", {"big": BODY, "small": b"1"}))
    dataset = publish_dataset(Draft(name="large"), source=source, store=store).dataset
    return Published(store=store, dataset=dataset, source=source, cache=Cache(root=folder / "cache"))


@pytest.fixture
def large(published_large: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    monkeypatch.setattr(parallel, "PAUSES_S", (0.0, 0.0))
    return replace(published_large, cache=Cache(root=tmp_path / "cache"))


class WithoutThirdPart(fakes.FaultyStore):
    """A store from which reading the third part always fails, after the other parts were read."""

    def __init__(self, inner: Store, error: Callable[[Iterator[bytes]], Iterator[bytes]] = fakes.reset) -> None:
        super().__init__(inner, iter, times=0)
        self._third = error
        self._others = Semaphore(0)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        body = super().read(key, start=start, length=length)
        if length == len(BODY) - 2 * PACK_BYTES:
            for _ in range(2):
                assert self._others.acquire(timeout=5)
            self._others.release(2)  # for the next try
            body = self._third(body)
        try:
            yield from body
        finally:  # a reader that has all bytes does not exhaust the iterator
            if length == PACK_BYTES:
                self._others.release()


def interrupt_fetch(large: Published) -> Path:
    """Fetch until the third part fails; return the partial file."""
    with pytest.raises(StoreUnreachableError):
        fetch_dataset(
            large.dataset,
            cache=large.cache,
            open_store=lambda: WithoutThirdPart(large.store),
        )
    return max(leftovers(large.cache), key=lambda path: path.stat().st_blocks)


def test_a_large_file_is_fetched_whole(large: Published) -> None:
    folder = fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: large.store).folder()
    assert contents(folder) == {"big": BODY, "small": b"1"}


def test_a_broken_connection_costs_one_part(large: Published) -> None:
    store = fakes.FaultyStore(large.store, fakes.reset, times=1, after=3)
    fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: store)
    assert len(store.reads) == 1 + 3 + 1 + 1, "manifest, three parts, one of them twice, the small file's pack"


def test_an_interrupted_fetch_continues_at_the_next_part(large: Published) -> None:
    interrupt_fetch(large)
    store = fakes.FaultyStore(large.store, iter, times=0)
    folder = fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: store).folder()
    assert contents(folder) == {"big": BODY, "small": b"1"}
    parts = [length for _, _, length in store.reads if length and length > 1]
    assert parts == [len(BODY) - 2 * PACK_BYTES]
    assert not leftovers(large.cache)


def test_remains_of_an_interrupted_fetch_are_verified(large: Published) -> None:
    leftover = interrupt_fetch(large)
    leftover.chmod(0o644)
    with leftover.open("r+b") as file:
        file.seek(PACK_BYTES + 7)
        file.write(b"\xff")
    folder = fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: large.store).folder()
    assert contents(folder)["big"] == BODY


def test_a_permanently_wrong_bit_is_never_accepted(large: Published) -> None:
    store = fakes.FaultyStore(large.store, fakes.flipped, times=99)
    with pytest.raises(DigestMismatchError):
        fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: store)
    assert len(objects(large.cache)) <= 1, "the small file's pack at most"
    folder = fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: large.store).folder()
    assert contents(folder)["big"] == BODY
    assert not leftovers(large.cache)


def test_valid_parts_of_a_file_that_changes_in_the_store_are_reused(large: Published) -> None:
    changed = WithoutThirdPart(large.store, fakes.flipped)
    with pytest.raises(DigestMismatchError, match=r"expected .* found"):
        fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: changed)
    store = fakes.FaultyStore(large.store, iter, times=0)
    folder = fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: store).folder()
    assert contents(folder)["big"] == BODY
    assert [length for _, _, length in store.reads if length and length > 1] == [len(BODY) - 2 * PACK_BYTES]


def test_a_damaged_part_in_the_cache_is_detected_at_use_and_fetched_again(large: Published) -> None:
    cached = fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: large.store)
    damage(max(objects(large.cache), key=lambda path: path.stat().st_size), at=PACK_BYTES + 7)
    cached.require("big", 0, PACK_BYTES)
    cached.require("big", 2 * PACK_BYTES)
    assert not large.cache.is_suspect(large.dataset)
    for start, stop in ((PACK_BYTES - 1, PACK_BYTES + 1), (PACK_BYTES, PACK_BYTES + 1), (0, None)):
        with pytest.raises(DigestMismatchError, match=r"large@1 is damaged in the cache: big"):
            cached.require("big", start, stop)
    with pytest.raises(DigestMismatchError):
        cached.read("big")
    assert large.cache.is_suspect(large.dataset)
    again = fetch_dataset(large.dataset, cache=large.cache, open_store=lambda: large.store)
    assert bytes(again.read("big")) == BODY
    assert bytes(again.read("small")) == b"1"
