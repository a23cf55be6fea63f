"""The order in which samples are seen: a function of seed and epoch alone.

Knows how an epoch is cut into batches and shared between ranks. Refuses to have a state: batch `k` of epoch `e` can be asked for at
once, whatever was read before, so a resumed run sees what the uninterrupted one would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch.utils.data import Sampler

from trainer.training.determinism.seeds import derived

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Key = tuple[int, int]
"""Epoch and index: what names a sample as it is seen, so that what is random about it does not depend on the number of workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of every batch is this process's."""

    rank: int = 0
    world: int = 1


class ShuffledBatches(Sampler[list[Key]]):
    """The training split, in an order of its own for each epoch; with several ranks an incomplete last batch is left out."""

    def __init__(self, rows: Sequence[int], *, batch_size: int, seed: int, share: Share) -> None:
        """Cut `rows` into batches of `batch_size` samples, all ranks together."""
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.share = share
        self.epoch = 0
        self.first = 0

    @property
    def sampler(self) -> Self:
        """What Lightning tells the epoch: it looks for `set_epoch` at a batch sampler's sampler, never at the batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; Lightning calls this before each."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def start_at(self, *, epoch: int, batch: int) -> None:
        """Go to a batch of an epoch, in no time."""
        self.epoch, self.first = epoch, batch

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + 1 if rest and self.share.world == 1 else whole

    def __iter__(self) -> Iterator[list[Key]]:
        """Give this rank's part of each batch."""
        generator = torch.Generator().manual_seed(derived(self.seed, "order", self.epoch))
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        for batch in range(self.first, len(self)):
            start = batch * self.batch_size
            whole = order[start : start + self.batch_size]
            yield [(self.epoch, self.rows[index]) for index in whole[self.share.rank :: self.share.world]]


class PlainBatches(Sampler[list[Key]]):
    """A split in its own order, every sample once: for validation and test."""

    def __init__(self, rows: Sequence[int], *, batch_size: int, share: Share) -> None:
        """Cut this rank's `rows` into batches."""
        self.rows = rows[share.rank :: share.world]
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Count the batches."""
        return (len(self.rows) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        """Give each batch."""
        for start in range(0, len(self.rows), self.batch_size):
            yield [(0, index) for index in self.rows[start : start + self.batch_size]]
