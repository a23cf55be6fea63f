"""A dataset in a cache with a limit is fetched as a whole if it fits, else streamed, also in parts and by several runs at once."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.data.conftest import fill
from tests.data.streams import Streams, published, watched
from trainer.base.errors import DatasetError, DigestMismatchError, DiskFullError
from trainer.data.cache.budget import Budget
from trainer.data.declaration import Draft
from trainer.data.files import SourceFolder
from trainer.data.packing import PACK_BYTES
from trainer.data.publish import publish_dataset
from trainer.data.stream import open_dataset, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.declaration import Dataset

COUNT, SIZE = 120, 100_000
LIMIT = COUNT * SIZE // 4


def noise(seed: int, count: int = COUNT, size: int = SIZE) -> dict[str, bytes]:
    random = np.random.default_rng(seed)
    return {f"{number:04}.bin": random.bytes(size) for number in range(count)}


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    return published(tmp_path, noise(0))


def test_a_dataset_that_fits_is_fetched_as_a_whole(streams: Streams) -> None:
    data = open_dataset(streams.source(2 * COUNT * SIZE))
    assert not data.is_streamed
    assert streams.source(2 * COUNT * SIZE).cache.has(streams.dataset)
    assert {path: bytes(data.read(path)) for path in data.paths} == streams.files


def test_a_complete_dataset_is_used_whatever_the_limit(streams: Streams) -> None:
    open_dataset(streams.source(2 * COUNT * SIZE))
    sent = streams.store.sent
    assert not open_dataset(streams.source(LIMIT)).is_streamed
    assert streams.store.sent == sent


def test_other_data_in_the_cache_count_toward_its_limit(streams: Streams) -> None:
    open_dataset(streams.source(2 * COUNT * SIZE))
    streams.dataset = published_beside(streams, Draft(name="other"), noise(1))
    with pytest.raises(DiskFullError, match=r"has 1\d\.\d MB of other data; its limit is 12\.5 MB") as caught:
        streams.open(COUNT * SIZE + 500_000)
    assert "reprise data gc --apply" in str(caught.value.hint)


def test_a_folder_of_all_files_takes_the_room_of_streamed_chunks(streams: Streams, others: Streams) -> None:
    others.dataset = published_beside(others, Draft(name="weights"), {"net.bin": bytes(range(256)) * 2000})
    first = streams.open(LIMIT)
    with watched(streams.folder / "cache") as usage:
        assert read_all(first, streams.files, epochs=1)
        folder = open_folder(others.source(LIMIT)).folder()
    assert (folder / "net.bin").read_bytes() == bytes(range(256)) * 2000
    assert open_folder(others.source(LIMIT)).folder() == folder
    assert LIMIT // 2 < usage[-1] <= LIMIT


def test_a_dataset_that_is_needed_as_a_folder_and_too_large_is_rejected(streams: Streams) -> None:
    with pytest.raises(DiskFullError, match=r"many@1 needs 2\d\.\d MB in the cache .*; its limit is 3\.0 MB"):
        open_folder(streams.source(LIMIT))


def test_a_folder_that_cannot_be_created_takes_no_room(streams: Streams) -> None:
    source = streams.source(4 * COUNT * SIZE)
    complete = open_dataset(source)
    damaged = next(path for path in (streams.folder / "cache" / "objects").rglob("*") if path.is_file())
    damaged.chmod(0o600)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    del complete
    with source.budget.joined():
        before = source.budget.count().other
        with pytest.raises(DigestMismatchError):
            open_folder(source)
        assert source.budget.count().other == before


def test_a_streamed_dataset_is_no_folder(streams: Streams) -> None:
    with pytest.raises(DatasetError, match="is needed as a folder") as caught:
        streams.open(LIMIT).folder()
    assert "REPRISE_CACHE_LIMIT" in str(caught.value.hint)


def test_an_unknown_path_is_named(streams: Streams) -> None:
    with pytest.raises(DatasetError, match=r"has no file '0001\.bon'"):
        streams.open(LIMIT).read("0001.bon")


def test_ranges_of_files_are_read(streams: Streams) -> None:
    files = streams.open(LIMIT)
    whole = streams.files["0003.bin"]
    assert files.size("0003.bin") == SIZE
    for start, stop in ((0, 10), (5, 5), (SIZE - 3, SIZE), (SIZE - 3, SIZE + 9), (7, None)):
        assert bytes(files.read("0003.bin", start, stop)) == whole[start:stop]


def test_a_large_file_is_streamed_in_parts(tmp_path: Path) -> None:
    big = np.random.default_rng(0).bytes(2 * PACK_BYTES + 5000)
    streams = published(tmp_path, {"big": big, "empty": b"", "small": b"small"})
    files, limit = streams.open(PACK_BYTES + (8 << 20)), PACK_BYTES + (8 << 20)
    with watched(tmp_path / "cache") as usage:
        for start, stop in ((10, 20), (PACK_BYTES - 5, PACK_BYTES + 5), (2 * PACK_BYTES - 1, len(big))):
            assert bytes(files.read("big", start, stop)) == big[start:stop]
        assert bytes(files.read("big")) == big
    assert usage[-1] <= limit
    assert (bytes(files.read("empty")), bytes(files.read("small"))) == (b"", b"small")


def test_another_process_opens_the_version_from_its_pickle(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    files = streams.open(LIMIT)
    monkeypatch.setattr(Streams, "__reduce__", lambda self: (_kept, (id(self),)))
    _KEPT[id(streams)] = streams
    again = pickle.loads(pickle.dumps(files))  # noqa: S301 - pickled by this test
    assert bytes(again.read("0001.bin")) == streams.files["0001.bin"]


_KEPT: dict[int, Streams] = {}


def _kept(number: int) -> Streams:
    return _KEPT[number]


def read_all(
    files: StreamedDataset, expected: dict[str, bytes], epochs: int = 2, *, each: Callable[[], object] = bool
) -> bool:
    """Read all files one by one in shuffled orders while they are fetched ahead; call `each` before every file."""
    for epoch in range(epochs):
        order = [f"{number:04}.bin" for number in np.random.default_rng(epoch).permutation(COUNT)]
        ids = [next(files.chunk_ids(path, 0, SIZE)) for path in order]
        ahead = files.read_ahead([[one] for one in ids], ids)
        for at, path in enumerate(order):
            ahead.wait(at)
            each()
            assert bytes(files.read(path)) == expected[path]
            ahead.advance(at + 1)
    files.close()
    return True


@pytest.fixture
def others(streams: Streams) -> Streams:
    """Return another dataset, streamed into the same cache."""
    dataset = published_beside(streams, Draft(name="other"), noise(1))
    return Streams(folder=streams.folder, store=streams.store, dataset=dataset, files=noise(1))


def published_beside(streams: Streams, draft: Draft, files: dict[str, bytes]) -> Dataset:
    """Publish another dataset to the same store."""
    source = SourceFolder(root=fill(streams.folder / draft.name, files))
    return publish_dataset(draft, source=source, store=streams.store).dataset


def test_several_runs_share_the_bound(streams: Streams, others: Streams) -> None:
    with watched(streams.folder / "cache") as usage, ThreadPoolExecutor() as threads:
        runs = [(each.open(LIMIT), each.files) for each in (streams, others, streams)]
        assert [*threads.map(lambda run: read_all(*run), runs)] == [True] * 3
    assert LIMIT // 2 < usage[-1] <= LIMIT


def test_a_second_dataset_gets_half_of_the_bound(streams: Streams, others: Streams) -> None:
    first, second = streams.open(LIMIT), others.open(LIMIT)
    budget, counts = Budget(root=streams.folder / "cache", limit=LIMIT), []
    assert read_all(first, streams.files)
    assert read_all(second, others.files, each=lambda: counts.append(budget.count().streamed))
    sizes = np.array([[*count.values()] for count in counts[COUNT // 2 : COUNT]])
    assert sizes.shape == (COUNT // 2, 2)
    typical = np.median(sizes, axis=0)  # up to four chunks were evicted to make room for chunks that are being fetched
    assert (typical > LIMIT * 0.35).all()
    assert (typical < LIMIT * 0.65).all()


def test_chunks_that_no_run_uses_are_evicted_first(streams: Streams, others: Streams) -> None:
    first = streams.open(LIMIT)
    assert read_all(first, streams.files, epochs=1)
    assert first.lease
    first.lease.end()
    assert read_all(others.open(LIMIT), others.files, epochs=1)
    (path,) = Budget(root=streams.folder / "cache", limit=LIMIT).count().streamed
    assert path.startswith("versions/other/")
