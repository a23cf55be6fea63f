"""Reading ahead in a cache that is smaller than the dataset: within the limit, verified, and with the fewest fetches."""

from __future__ import annotations

import resource
import threading
from contextlib import suppress
from itertools import chain, pairwise
from threading import Barrier, BrokenBarrierError, Event
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.data.streams import Streams, published, watched
from trainer.base.errors import DigestMismatchError, StoreUnreachableError
from trainer.data.cache.budget import Budget, Usage
from trainer.data.read_ahead import NEVER, SCANNED, THREADS, Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from trainer.data.cache.streamed import StreamedDataset

COUNT, SIZE = 200, 100_000
LIMIT = COUNT * SIZE // 4


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    numbers = np.random.default_rng(0)
    return published(tmp_path, {f"{number:04}.bin": numbers.bytes(SIZE) for number in range(COUNT)})


def orders(epochs: int) -> list[list[str]]:
    paths = [f"{number:04}.bin" for number in range(COUNT)]
    return [[paths[each] for each in np.random.default_rng(epoch).permutation(COUNT)] for epoch in range(epochs)]


def fewest_fetches(order: list[str], room: int) -> list[bool]:
    """Return whether each read needs a fetch in a cache of `room` files that evicts the file with the farthest next use (Belady, 1966)."""
    cached: dict[str, int] = {}
    fetched = []
    for at, path in enumerate(order):
        fetched.append(path not in cached)
        cached[path] = next((use for use in range(at + 1, len(order)) if order[use] == path), NEVER)
        if len(cached) > room:
            del cached[max(cached, key=cached.__getitem__)]
    return fetched


def read_pass(files: StreamedDataset, order: list[str], later: list[str]) -> list[bytes]:
    """Read files in the order `order`, in batches of ten, and return their bytes; `later` is the order of the next pass."""
    batches = [order[at : at + 10] for at in range(0, len(order), 10)]
    ids = {path: next(files.chunk_ids(path, 0, SIZE)) for path in {*order, *later}}
    ahead = files.read_ahead([[ids[path] for path in batch] for batch in batches], [ids[path] for path in later])
    found = []
    for at, batch in enumerate(batches):
        ahead.wait(at)
        found += [bytes(files.read(path)) for path in batch]
        ahead.advance(at + 1)
    return found


def test_the_next_use_of_a_chunk_is_found_from_each_position() -> None:
    order = Order(np.array([5, 7, 5, 9]))
    assert [order.next_use(5, now) for now in range(4)] == [0, 2, 2, NEVER]
    assert [order.next_use(chunk, 0) for chunk in (7, 9, 6, 10)] == [1, 3, NEVER, NEVER]


def test_shuffled_passes_read_the_published_bytes_within_the_bound(streams: Streams) -> None:
    files = streams.open(LIMIT)
    passes = orders(4)
    with watched(streams.folder / "cache") as usage:
        for order, later in pairwise(passes):
            assert read_pass(files, order, later) == [streams.files[path] for path in order]
    assert LIMIT // 2 < usage[-1] <= LIMIT


def test_the_chunks_with_the_farthest_next_use_are_evicted(streams: Streams) -> None:
    files = streams.open(LIMIT)
    passes, before = orders(4), streams.store.sent
    for order, later in pairwise(passes):
        read_pass(files, order, later)
    room = (LIMIT - LIMIT // 16) // SIZE
    fewest = sum(fewest_fetches([*chain(*passes)], room)[: 3 * COUNT])
    assert fewest <= (streams.store.sent - before) / SIZE < 1.08 * fewest


def test_a_pass_in_order_fetches_adjacent_files_in_one_request(streams: Streams) -> None:
    files = streams.open(LIMIT)
    before = streams.store.requests
    read_pass(files, sorted(streams.files), [])
    assert streams.store.requests - before < COUNT / 4


def test_damage_in_the_cache_is_fetched_again(streams: Streams) -> None:
    files = streams.open(LIMIT)
    read_pass(files, orders(1)[0], [])
    for path in (streams.folder / "cache").glob("versions/*/*/streamed.*/*"):
        path.write_bytes(bytes(SIZE))
    assert {path: bytes(files.read(path)) for path in streams.files} == streams.files


def test_wrong_bytes_of_the_store_are_not_used(streams: Streams) -> None:
    files = streams.open(LIMIT)
    streams.store.damaged = True
    with pytest.raises(DigestMismatchError, match=r"many@1: 00\d\d\.bin has been altered"):
        read_pass(files, sorted(streams.files), [])
    assert files.folder_of_chunks.names() == set()


def test_an_outage_costs_a_pause_and_a_line(streams: Streams) -> None:
    files = streams.open(LIMIT)
    fault = streams.store.fault = StoreUnreachableError("the store does not respond", hint="wait")

    def say(line: str) -> None:
        streams.said.append(line)
        streams.store.fault = None

    files.patience.say = say
    order = orders(1)[0]
    assert read_pass(files, order, []) == [streams.files[path] for path in order]
    assert streams.said[0] == f"{fault.message}: retrying for up to 15 minutes"
    assert streams.said[1].startswith("the store is reachable again after ")


def test_an_outage_without_an_end_ends_the_run(streams: Streams) -> None:
    files = streams.open(LIMIT, longest_s=0.1)
    streams.store.fault = StoreUnreachableError("the store does not respond", hint="wait")
    with pytest.raises(StoreUnreachableError):
        read_pass(files, orders(1)[0], [])


def test_few_threads_fetch_and_all_end_with_the_pass(streams: Streams) -> None:
    before = threading.active_count()
    files = streams.open(LIMIT)
    for order, later in pairwise(orders(4)):
        read_pass(files, order, later)
        assert threading.active_count() <= before + THREADS
    files.close()
    assert threading.active_count() == before


def test_threads_that_have_nothing_to_fetch_use_no_time(streams: Streams) -> None:
    files = streams.open(LIMIT)
    first, second = orders(2)
    read_pass(files, first, second)
    switches = 0
    for _ in range(60):  # at first, the threads still fetch the first chunks of the second pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        threading.Event().wait(0.5)
        if (switches := resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) < 200:
            break
    assert switches < 200
    files.close()


def test_a_batch_of_many_cached_chunks_is_ready(tmp_path: Path) -> None:
    count = 2 * SCANNED + 10
    streams = published(tmp_path, {"a.bin": bytes(SIZE), "b.bin": b"b" * SIZE * 30})
    files = streams.open(LIMIT // 2)
    files.read("a.bin")
    ahead = files.read_ahead([[next(files.chunk_ids("a.bin", 0, 1))] * count])
    ahead.wait(0)
    files.close()


def test_an_early_chunk_is_fetched_while_late_ones_beside_others_have_no_room(tmp_path: Path) -> None:
    waits = threading.Event()

    def fail() -> None:
        if waits.is_set():
            raise TimeoutError("the batch does not get ready")

    paths = [f"{number:04}.bin" for number in range(600)]
    streams = published(tmp_path, {path: path.encode() * 2000 for path in paths})
    files = streams.open(9_000_000, check=fail)
    ids = [next(files.chunk_ids(path, 0, 1)) for path in paths]
    for path in paths[20:]:
        files.read(path)  # until the cache is full
    cached = sorted(each.id for each in files.chunks.files(files.folder_of_chunks.names()))
    early, late = ids[: 3 * THREADS : 3], ids[1 : 3 * THREADS : 3]
    ahead = files.read_ahead([[*early, ids[3 * THREADS]], cached, late])
    waits.set()
    ahead.wait(0)
    waits.clear()
    files.close()
    assert len(cached) < len(paths) - 20


def test_the_count_is_opened_for_few_chunks_only_and_is_exact_after_the_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = published(tmp_path, {f"{number:04}.bin": number.to_bytes(2, "big") * 1500 for number in range(1000)})
    files, opened, changed = small.open(2 << 20), [], Budget.changed

    def counting(self: Budget) -> AbstractContextManager[Usage]:
        opened.append(1)
        return changed(self)

    monkeypatch.setattr(Budget, "changed", counting)
    order = [f"{number:04}.bin" for number in np.random.default_rng(0).permutation(1000)]
    assert read_pass(files, order, []) == [small.files[path] for path in order]
    files.close()
    assert len(opened) < len(order) / 2
    folder = files.folder_of_chunks
    sizes = [each.cost for each in files.chunks.files(folder.names())]
    assert files.source.budget.count().streamed == {folder.path: sum(sizes)}


BLOCK, SMALL, MANY = 20, 3000, 1000


@pytest.fixture
def small(tmp_path: Path) -> Streams:
    numbers = np.random.default_rng(0)
    return published(tmp_path, {f"{number:04}.bin": numbers.bytes(SMALL) for number in range(MANY)})


def open_grouped(streams: Streams, limit: int, block: int = BLOCK) -> StreamedDataset:
    files = streams.open(limit)
    files.regroup(next(files.chunk_ids(f"{number:04}.bin", 0, 1)) for number in range(0, MANY, block))
    return files


def local_order(seed: int) -> list[str]:
    """Return the paths in an order of random blocks of neighbors, in which the files of adjacent blocks are mixed."""
    random = np.random.default_rng(seed)
    windows = np.split(random.permutation(MANY // BLOCK), 5)
    rows = [random.permutation((each[:, None] * BLOCK + np.arange(BLOCK)).flatten()) for each in windows]
    return [f"{number:04}.bin" for number in np.concatenate(rows)]


def test_neighbors_that_are_used_together_are_fetched_by_one_request_within_the_bound(small: Streams) -> None:
    files, limit = open_grouped(small, 2 << 20), 2 << 20
    before = small.store.requests
    passes = [local_order(seed) for seed in range(4)]
    with watched(small.folder / "cache") as usage:
        for order, later in pairwise(passes):
            assert read_pass(files, order, later) == [small.files[path] for path in order]
    files.close()
    assert small.store.requests - before <= 4 * MANY / BLOCK
    assert limit // 2 < usage[-1] <= limit
    folder = files.folder_of_chunks
    assert files.source.budget.count().streamed == {
        folder.path: sum(each.cost for each in files.chunks.files(folder.names()))
    }


def test_each_thread_fetches_a_group_at_once(small: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, block = 2 << 20, 43
    together, store = Barrier(THREADS, timeout=60), small.store
    read = store.read
    files = open_grouped(small, limit, block)

    def waiting(key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        with suppress(BrokenBarrierError):
            together.wait()
            reached.set()
        return read(key, start=start, length=length)

    reached = Event()
    monkeypatch.setattr(store, "read", waiting)
    firsts = [f"{number:04}.bin" for number in range(0, MANY, 2 * block)]
    files.read_ahead([[*files.chunk_ids(path, 0, 1)] for path in firsts])
    assert reached.wait(60), "fewer groups than threads were fetched at once"
    together.abort()
    files.close()


def test_a_damaged_neighbor_is_fetched_again(small: Streams) -> None:
    files, order = open_grouped(small, 2 << 20), local_order(0)
    read_pass(files, order, [])
    for path in (small.folder / "cache").glob("versions/*/*/streamed.*/*"):
        path.write_bytes(bytes(path.stat().st_size))
    assert {path: bytes(files.read(path)) for path in order} == small.files


def test_files_of_other_groups_are_evicted_first(small: Streams) -> None:
    files = small.open(2 << 20)
    read_pass(files, orders_of(small), [])
    singles = files.folder_of_chunks.names()
    grouped, before, order = open_grouped(small, 2 << 20), small.store.requests, local_order(0)
    assert read_pass(grouped, order, order) == [small.files[path] for path in order]
    grouped.close()
    assert len(singles) > 300
    assert small.store.requests - before <= 2 * MANY / BLOCK
    assert len(grouped.folder_of_chunks.names() & singles) < 10
    assert grouped.source.budget.count().total <= grouped.source.budget.usable


def orders_of(streams: Streams) -> list[str]:
    return [[*streams.files][each] for each in np.random.default_rng(1).permutation(len(streams.files))]
