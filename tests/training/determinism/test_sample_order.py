"""The order of samples is a function of seed and epoch only."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from trainer.training.determinism.seeds import Key, PlainBatches, Share, ShuffledBatches, block_of

pytestmark = pytest.mark.torch


def epoch_batches(
    rows: range, *, size: int = 4, seed: int = 0, epoch: int = 0, share: Share | None = None
) -> list[list[Key]]:
    sampler = ShuffledBatches(rows, batch_size=size, seed=seed, share=share or Share())
    sampler.set_epoch(epoch)
    assert len(list(sampler)) == len(sampler)
    return list(sampler)


@given(some.integers(1, 60), some.integers(1, 9), some.integers(0, 9))
def test_every_sample_is_seen_once_an_epoch(count: int, size: int, epoch: int) -> None:
    """Law: the batches of an epoch are a permutation of the split."""
    keys = [key for batch in epoch_batches(range(5, 5 + count), size=size, epoch=epoch) for key in batch]
    assert sorted(keys) == [(epoch, index) for index in range(5, 5 + count)]


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    assert epoch_batches(range(40)) == epoch_batches(range(40))
    assert epoch_batches(range(40)) != epoch_batches(range(40), seed=1)
    indices = [[index for _, index in epoch_batches(range(40), epoch=epoch)[0]] for epoch in (0, 1)]
    assert indices[0] != indices[1]


def test_the_global_generator_is_not_touched() -> None:
    before = torch.random.get_rng_state()
    epoch_batches(range(40))
    assert torch.equal(before, torch.random.get_rng_state())


def test_iteration_can_start_at_any_batch() -> None:
    sampler = ShuffledBatches(range(40), batch_size=4, seed=0, share=Share())
    sampler.start_at(epoch=3, batch=6)
    assert list(sampler) == list(islice(epoch_batches(range(40), epoch=3), 6, None))


def test_ranks_share_a_batch() -> None:
    alone = epoch_batches(range(42), size=4)
    shares = [epoch_batches(range(42), size=4, share=Share(rank=rank, world=2, shards=2)) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == 10
    assert [sorted(left + right) for left, right in zip(*shares, strict=True)] == [
        sorted(batch) for batch in alone[:10]
    ]


def test_the_shards_of_a_batch_do_not_depend_on_the_number_of_ranks() -> None:
    whole, halves = (
        [epoch_batches(range(42), size=8, share=Share(rank=rank, world=world, shards=4)) for rank in range(world)]
        for world in (1, 2)
    )
    assert whole[0] == [left + right for left, right in zip(*halves, strict=True)]
    assert whole[0][0][:2] == [epoch_batches(range(42), size=8)[0][place] for place in (0, 4)]


def test_evaluation_is_in_order() -> None:
    assert list(PlainBatches(range(3, 8), batch_size=2)) == [[(0, 3), (0, 4)], [(0, 5), (0, 6)], [(0, 7)]]


def window_order(count: int, window: int, *, epoch: int = 0, seed: int = 0) -> list[int]:
    sampler = ShuffledBatches(range(count), batch_size=4, seed=seed, share=Share(), window=window)
    sampler.set_epoch(epoch)
    return [index for batch in sampler for _, index in batch]


def test_a_full_shuffle_has_the_bits_that_it_had_before_windows() -> None:
    batches = epoch_batches(range(100, 112), size=6, seed=5, epoch=2)
    rows = [[index for _, index in batch] for batch in batches]
    assert rows == [[100, 111, 108, 105, 110, 102], [106, 101, 107, 109, 103, 104]]


@given(some.integers(1, 300), some.integers(1, 400), some.integers(0, 3))
def test_a_window_reads_every_sample_once_an_epoch(count: int, window: int, epoch: int) -> None:
    assert sorted(window_order(count, window, epoch=epoch)) == [*range(count)]


def test_an_order_by_windows_depends_on_seed_and_epoch_only() -> None:
    assert window_order(1000, 100) == window_order(1000, 100)
    others = [window_order(1000, 100, epoch=1), window_order(1000, 100, seed=1), window_order(1000, 200)]
    assert all(window_order(1000, 100) != each for each in others)


def test_a_window_mixes_blocks_of_neighbors_from_the_whole_split() -> None:
    order = np.array(window_order(10_000, 320))
    assert block_of(320) == 40
    for first in range(0, 9_900, 100):
        blocks = {*(order[first : first + 100] // 40).tolist()}
        assert len(blocks) > 4
        assert max(blocks) - min(blocks) > 50
    places = np.empty(10_000, dtype=np.int64)
    places[order] = np.arange(10_000)
    spans = np.ptp(places.reshape(-1, 40), axis=1)
    assert spans.max() < 1.3 * (320 + 40)


def test_an_order_by_windows_can_start_at_any_batch() -> None:
    sampler = ShuffledBatches(range(1001), batch_size=4, seed=0, share=Share(), window=64)
    whole = [*sampler]
    for batch in (1, 17, 250):
        sampler.start_at(epoch=0, batch=batch)
        assert [*sampler] == whole[batch:]
        assert [*sampler.following()] == [*_epoch(sampler, 1)]


def _epoch(sampler: ShuffledBatches, epoch: int) -> list[list[Key]]:
    sampler.set_epoch(epoch)
    return [*sampler]


def test_ranks_share_the_batches_of_an_order_by_windows() -> None:
    shares = [
        [*ShuffledBatches(range(402), batch_size=4, seed=0, share=Share(rank=rank, world=2, shards=2), window=64)]
        for rank in (0, 1)
    ]
    whole = window_order(402, 64)
    assert [sorted(index for _, index in left + right) for left, right in zip(*shares, strict=True)] == [
        sorted(whole[at : at + 4]) for at in range(0, 400, 4)
    ]
