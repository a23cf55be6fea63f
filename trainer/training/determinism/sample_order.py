"""The order of samples: a function of seed and epoch alone.

The samplers are stateless: batch `k` of epoch `e` is available directly, independent of earlier reads, so a resumed run gets the same
batches as an uninterrupted run.
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
"""Epoch and index of a sample; its random transforms derive from both, so that they do not depend on the number of workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The part of every batch that belongs to this process."""

    rank: int = 0
    world: int = 1


class ShuffledBatches(Sampler[list[Key]]):
    """The training split, shuffled for each epoch; with several ranks an incomplete last batch is dropped."""

    def __init__(self, rows: Sequence[int], *, batch_size: int, seed: int, share: Share) -> None:
        """Divide `rows` into batches of `batch_size` samples over all ranks."""
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.share = share
        self.epoch = 0
        self.first = 0

    @property
    def sampler(self) -> Self:
        """The object whose `set_epoch` Lightning calls: a batch sampler's sampler, never the batch sampler itself."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Move to the start of an epoch; Lightning calls this before each epoch."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def start_at(self, *, epoch: int, batch: int) -> None:
        """Move to a batch of an epoch, in constant time."""
        self.epoch, self.first = epoch, batch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + 1 if rest and self.share.world == 1 else whole

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this rank's part of each batch."""
        generator = torch.Generator().manual_seed(derived(self.seed, "order", self.epoch))
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        for batch in range(self.first, len(self)):
            start = batch * self.batch_size
            whole = order[start : start + self.batch_size]
            yield [(self.epoch, self.rows[index]) for index in whole[self.share.rank :: self.share.world]]


class PlainBatches(Sampler[list[Key]]):
    """A split in its own order, every sample once: for validation and test."""

    def __init__(self, rows: Sequence[int], *, batch_size: int, share: Share) -> None:
        """Divide this rank's `rows` into batches."""
        self.rows = rows[share.rank :: share.world]
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return (len(self.rows) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield each batch."""
        for start in range(0, len(self.rows), self.batch_size):
            yield [(0, index) for index in self.rows[start : start + self.batch_size]]
