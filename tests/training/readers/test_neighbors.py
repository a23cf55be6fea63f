"""A windowed shuffle of a streamed dataset reads the published bytes with few requests; a notice is printed if it needs many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.data.streams import Streams, published, watched
from trainer.base.document import typed
from trainer.data.declaration import Draft
from trainer.training.data import Loader, RunData
from trainer.training.determinism.seeds import ShuffledBatches
from trainer.training.readers import Pick, open_samples
from trainer.training.readers.byte_samples import WholeFiles
from trainer.training.readers.neighbors import Neighborhood

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.training.readers.samples import Piece

pytestmark = pytest.mark.torch
COUNT, SIZE, LIMIT, WINDOW = 1200, 3000, 2 << 20, 192
SPLITS = {"train": (0, 1000), "val": (1000, 1200)}


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    random = np.random.default_rng(0)
    draft = typed({"name": "many", "reader": {"kind": "files"}, "splits": SPLITS}, Draft, where="test")
    return published(tmp_path, {f"{number:04}": random.bytes(SIZE) for number in range(COUNT)}, draft)


def run_data(streams: Streams, limit: int, **more: Any) -> RunData:
    samples = open_samples(streams.dataset, streams.open(limit))
    return RunData(streams.dataset, samples, batch_size=16, seed=3, **{"workers": 0, "shuffle_window": WINDOW, **more})


def order_of(loader: Loader) -> ShuffledBatches:
    assert loader.ahead is not None
    assert isinstance(loader.ahead.sampler, ShuffledBatches)
    return loader.ahead.sampler


def epochs(data: RunData, count: int = 2) -> list[torch.Tensor]:
    """Return the bytes of all batches, of train and val in each epoch, as in a run."""
    train, val, found = data.train_dataloader(), data.val_dataloader(), []
    for epoch in range(count):
        order_of(train).set_epoch(epoch)
        found += [batch["bytes"] for loader in (train, val) for batch in loader]
    return found


def expected(streams: Streams, data: RunData, count: int = 2) -> list[torch.Tensor]:
    """Return the batches that `epochs` should return, from the published files."""
    bodies, found = [*streams.files.values()], []
    for epoch in range(count):
        sampler = order_of(data.train_dataloader())
        sampler.set_epoch(epoch)
        found += [[row for _, row in batch] for batch in sampler]
        found += [[*range(first, min(first + 16, COUNT))] for first in range(1000, COUNT, 16)]
    return [
        torch.stack([torch.frombuffer(bytearray(bodies[row]), dtype=torch.uint8) for row in rows]) for rows in found
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_window_reads_the_published_bytes_by_few_requests_within_the_bound(streams: Streams, workers: int) -> None:
    data, before = run_data(streams, LIMIT, workers=workers), streams.store.requests
    with watched(streams.folder / "cache") as usage:
        found = epochs(data)
    for one, other in zip(found, expected(streams, data), strict=True):
        assert torch.equal(one, other)
    assert LIMIT // 2 < usage[-1] <= LIMIT
    assert streams.store.requests - before < 2 * COUNT / 12


def test_a_full_shuffle_needs_many_requests_and_gets_a_line(streams: Streams) -> None:
    data, before = run_data(streams, LIMIT, shuffle_window=None), streams.store.requests
    epochs(data)
    assert streams.store.requests - before > COUNT
    line = data.neighborhood.notice(1000)
    assert line is not None
    assert line.startswith(
        "many@1: nearly each of 1,000 samples of train needs a request, because all samples are shuffled"
    )
    assert "--shuffle-window 175" in line


def test_a_window_that_is_too_large_for_the_cache_is_not_kept_together_and_gets_a_line(streams: Streams) -> None:
    data, before = run_data(streams, LIMIT, shuffle_window=900), streams.store.sent
    epochs(data)
    assert streams.store.sent - before < 2.2 * COUNT * SIZE
    line = data.neighborhood.notice(1000)
    assert line is not None
    assert "because a window of 900 is more than half of the cache's limit; --shuffle-window 175" in line


def test_a_window_that_fits_gets_no_line(streams: Streams) -> None:
    assert run_data(streams, LIMIT).neighborhood.notice(1000) is None


class Reversed(WholeFiles):
    """Samples whose order is the reverse of the order of their files."""

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        return super().pieces(replace(pick, index=COUNT - 1 - pick.index))


def test_samples_in_another_order_than_their_files_are_not_kept_together(streams: Streams) -> None:
    files = streams.open(LIMIT)
    neighborhood = Neighborhood(samples=Reversed(files), window=WINDOW)
    neighborhood.join([range(COUNT)])
    assert len(files.chunks.group_of(0).chunks) == 1
    assert neighborhood.notice(1000) is None
    Neighborhood(samples=WholeFiles(files), window=WINDOW).join([range(COUNT)])
    assert len(files.chunks.group_of(0).chunks) == WINDOW // 8


def test_samples_of_other_splits_are_not_fetched_with_those_of_train(streams: Streams) -> None:
    files, rows = streams.open(LIMIT), np.random.default_rng(0).permutation(COUNT)
    splits = [sorted(rows[:900].tolist()), sorted(rows[900:].tolist())]
    Neighborhood(samples=WholeFiles(files), window=WINDOW).join(splits)
    (ids,) = (files.chunks.group_ids(np.arange(COUNT, dtype=np.int64) << 20),)
    for group in np.unique(ids):
        members = {chunk.id >> 20 for chunk in files.chunks.group(int(group)).chunks}
        assert any(members <= {*split} for split in splits)
