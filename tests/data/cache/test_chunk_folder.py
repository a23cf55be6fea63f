"""The chunks of a streamed version on disk: concurrent writers and evictors count each chunk once."""

from __future__ import annotations

import errno
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.data.streams import disk_usage
from trainer.base.digest import digest_of_bytes
from trainer.base.safe_folder import Root
from trainer.data.cache.budget import Budget
from trainer.data.cache.chunk_folder import ChunkFolder
from trainer.data.chunks import Chunk, ChunkGroup

if TYPE_CHECKING:
    from pathlib import Path

BODIES = [b"%05d" % number * 2000 for number in range(200)]
CHUNKS = [
    ChunkGroup.of(Chunk(id=number, title=f"{number}", sha256=digest_of_bytes(body), size=len(body), segments=()))
    for number, body in enumerate(BODIES)
]
COST = sum(each.cost for each in CHUNKS)


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(root=tmp_path / "cache", limit=64 << 20)


def filled(budget: Budget, version: str = "versions/a/1") -> ChunkFolder:
    folder = ChunkFolder(budget, version)
    assert folder.reserve(CHUNKS)
    for chunk, body in zip(CHUNKS, BODIES, strict=True):
        folder.write(chunk, body)
    return folder


def test_chunks_that_several_threads_evict_are_counted_once(budget: Budget) -> None:
    folder = filled(budget)
    assert budget.count().streamed == {folder.path: COST}
    others = [ChunkFolder(budget, f"versions/b/{number}") for number in range(4)]
    with ThreadPoolExecutor(len(others)) as threads:
        freed = [*threads.map(lambda other: other.take_idle(COST), others)]
    assert any(freed)
    assert budget.count().streamed == {}
    assert folder.names() == set()


def test_a_chunk_that_several_threads_write_is_counted_once(budget: Budget) -> None:
    with ThreadPoolExecutor(4) as threads:
        folders = [*threads.map(lambda _: filled(budget), range(4))]
    assert budget.count().streamed == {folders[0].path: COST}
    assert all(folders[1].read(chunk, chunk.id) == body for chunk, body in zip(CHUNKS, BODIES, strict=True))


def test_evicted_chunks_take_no_space_and_can_be_reserved_again(budget: Budget) -> None:
    folder = filled(budget)
    before = disk_usage(budget.root)
    folder.evict(CHUNKS[:100])
    assert disk_usage(budget.root) < before - 90 * len(BODIES[0])
    assert folder.names() == {chunk.name for chunk in CHUNKS[100:]}
    folder.evict(CHUNKS)
    assert budget.count().total == budget.count().other


def test_room_is_taken_from_a_version_with_more_than_its_share_and_no_more_than_that(budget: Budget) -> None:
    folder, other = filled(budget), ChunkFolder(budget, "versions/b/1")
    other._idle, other._looked = [], float("inf")  # no version is idle
    while other.take_room(CHUNKS[:20]):
        assert other.reserve(CHUNKS[:20])
    share = budget.count().streamed
    assert share[folder.path] == pytest.approx(share[other.path], abs=20 * CHUNKS[0].cost)


@pytest.mark.parametrize("has_links", [True, False])
def test_chunks_that_are_written_and_evicted_at_once_are_counted_exactly(
    budget: Budget, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links")

    if not has_links:
        monkeypatch.setattr(Root, "link", no_link)

    def work(number: int) -> None:
        folder, shuffled = ChunkFolder(budget, "versions/a/1"), random.Random(number)  # noqa: S311 - test data, not for cryptography
        for chunk, body in shuffled.sample([*zip(CHUNKS, BODIES, strict=True)], len(CHUNKS)):
            assert folder.reserve([chunk])
            folder.write(chunk, body)
            folder.evict(shuffled.sample(CHUNKS, 2))

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(work, range(4))] == [None] * 4
    folder = ChunkFolder(budget, "versions/a/1")
    on_disk = sum(chunk.cost for chunk in CHUNKS if folder.has(chunk))
    counted = budget.count().streamed.get(folder.path, 0)
    assert (counted == on_disk) if has_links else (counted >= on_disk)


def test_a_damaged_chunk_is_replaced_and_counted_once(budget: Budget) -> None:
    folder = filled(budget)
    (budget.root / folder.path / CHUNKS[0].name).write_bytes(b"short")
    assert folder.reserve(CHUNKS[:1])
    folder.write(CHUNKS[0], BODIES[0])
    assert folder.read(CHUNKS[0], 0) == BODIES[0]
    assert budget.count().streamed == {folder.path: COST}
    assert not [name for name in (budget.root / folder.path).iterdir() if name.name.startswith(".")]
