"""The order of samples is a function of seed and epoch only."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from trainer.training.determinism.seeds import Key, PlainBatches, Share, ShuffledBatches

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
    shares = [epoch_batches(range(42), size=4, share=Share(rank=rank, world=2)) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == 10
    assert [sorted(left + right) for left, right in zip(*shares, strict=True)] == [
        sorted(batch) for batch in alone[:10]
    ]


def test_evaluation_is_in_order() -> None:
    parts = [list(PlainBatches(range(3, 10), batch_size=2, share=Share(rank=rank, world=2))) for rank in (0, 1)]
    assert parts[0] == [[(0, 3), (0, 5)], [(0, 7), (0, 9)]]
    assert parts[1] == [[(0, 4), (0, 6)], [(0, 8)]]
