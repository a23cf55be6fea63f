"""Seeds and sample order: every random number of a run is derived from one seed and the position in the run.

Generator state is neither saved nor restored: each position has its own seed, so random numbers used by validation, prefetching or a crash
do not matter. The samplers are stateless too: batch `k` of epoch `e` is available directly, so a resumed run gets the same batches.
"""

from __future__ import annotations

import copy
import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import torch
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Key = tuple[int, int]
"""Epoch and index of a sample; its random transforms derive from both, so that they do not depend on the number of workers."""


def derived(seed: int, *place: str | int) -> int:
    """Return the seed of a position in the run, such as `derived(0, "step", epoch, batch, shard)`: 63 bits, equal on every machine.

    >>> derived(0, "order", 1) == derived(0, "order", 1), derived(0, "order", 1) == derived(0, "order", 2)
    (True, False)
    """
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_all(value: int) -> None:
    """Seed the global generators of torch (on every device), NumPy and Python."""
    if torch.version.cuda is not None:
        torch.manual_seed(value)
    else:  # a CPU build has one generator, and a call for other devices' generators takes 240 microseconds at every step
        torch.default_generator.manual_seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 - the global generator, which an experiment may use
    random.seed(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """This process's shards of every batch: consecutive shards, the same number in each process."""

    rank: int = 0
    world: int = 1
    shards: int = 1
    """The number of shards of a batch: sample `i` of the batch belongs to shard `i % shards`."""

    @property
    def own(self) -> range:
        """The numbers of this process's shards."""
        count = self.shards // self.world
        return range(self.rank * count, (self.rank + 1) * count)


class EpochPosition:
    """The epoch and the batch at which a sampler of batches begins; also the object whose `set_epoch` Lightning calls."""

    epoch: int = 0
    first: int = 0
    """The batch at which the epoch begins; not 0 only in a resumed run."""

    @property
    def sampler(self) -> Self:
        """Return this sampler: Lightning calls a batch sampler's sampler, never the batch sampler itself."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Move to the start of an epoch; Lightning calls this before each epoch."""
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def start_at(self, *, epoch: int, batch: int) -> None:
        """Move to a batch of an epoch, in constant time."""
        self.epoch, self.first = epoch, batch


_MOST: Final = 128
"""The maximum number of samples in a block: a request for more small files takes hardly less time per file."""
_FEWEST: Final = 8
"""The minimum number of blocks that a window mixes, unless the window is smaller."""


def block_of(window: int) -> int:
    """Return the number of consecutive samples in a block, for a shuffle with a window."""
    return max(1, min(_MOST, window // _FEWEST))


class ShuffledBatches(EpochPosition, Sampler[list[Key]]):
    """The training split, shuffled for each epoch; with several shards an incomplete last batch is dropped.

    A batch has the keys of this process's shards, one shard after another.

    With a `window`, blocks of consecutive samples are shuffled, and then each sample is moved back by less than `window` positions: the
    number of blocks of which only some samples are read stays about the same, so that blocks are needed at a constant rate.
    """

    def __init__(
        self, rows: Sequence[int], *, batch_size: int, seed: int, share: Share, window: int | None = None
    ) -> None:
        self.rows = rows
        self.window = window
        self.batch_size = batch_size
        self.seed = seed
        self.share = share

    def following(self) -> ShuffledBatches:
        """Return the batches of the next epoch."""
        following = copy.copy(self)
        following.start_at(epoch=self.epoch + 1, batch=0)
        return following

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + 1 if rest and self.share.shards == 1 else whole

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order().tolist()
        for batch in range(self.first, len(self)):
            start = batch * self.batch_size
            whole = order[start : start + self.batch_size]
            parts = (whole[shard :: self.share.shards] for shard in self.share.own)
            yield [(self.epoch, self.rows[index]) for part in parts for index in part]

    def _order(self) -> torch.Tensor:
        """Return the positions in `rows` in the order of this epoch, `[samples]`."""
        count, generator = len(self.rows), torch.Generator().manual_seed(derived(self.seed, "order", self.epoch))
        if self.window is None:
            return torch.randperm(count, generator=generator)
        size = block_of(self.window)
        blocks = torch.randperm(-(-count // size), generator=generator)
        rows = (blocks[:, None] * size + torch.arange(size)).flatten()
        rows = rows[rows < count]  # the last block may be shorter
        positions = torch.arange(count) + torch.randint(self.window, (count,), generator=generator)
        return rows[torch.argsort(positions, stable=True)]


class PlainBatches(Sampler[list[Key]]):
    """A split in its own order, every sample once: for validation and test, in which every process reads the whole split."""

    def __init__(self, rows: Sequence[int], *, batch_size: int) -> None:
        self.rows = rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        return (len(self.rows) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.rows), self.batch_size):
            yield [(0, index) for index in self.rows[start : start + self.batch_size]]
