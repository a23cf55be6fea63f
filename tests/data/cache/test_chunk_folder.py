"""The chunks of a streamed version on the disk: several writers and evictors at once count each chunk once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.data.streams import disk_usage
from trainer.base.digest import digest_of_bytes
from trainer.data.cache.budget import Budget
from trainer.data.cache.chunk_folder import ChunkFolder
from trainer.data.chunks import Chunk

if TYPE_CHECKING:
    from pathlib import Path

BODIES = [b"%05d" % number * 2000 for number in range(200)]
CHUNKS = [
    Chunk(id=number, title=f"{number}", sha256=digest_of_bytes(body), size=len(body), segments=())
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
    assert all(folders[1].read(chunk) == body for chunk, body in zip(CHUNKS, BODIES, strict=True))


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
