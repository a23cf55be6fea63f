"""Sums in the order of a balanced binary tree, over the shards of a process and over processes.

The order of the additions depends only on the number of shards. An exchange between processes moves values and adds none, so that no bit
depends on the backend, the number of processes, their distribution over machines, or the size of a message.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import distributed

from trainer.base.errors import RankError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

LOGS: Final = "rank-*.txt in the attempt's folder have the output of the other ranks"
_CLOSED: Final = re.compile(r"Connection closed by peer \[([^\]]+)\]")
"""The part of gloo's message about a rank that ended, with the rank's address."""
MESSAGE: Final = 32 * 2**20
"""The size of the largest message in bytes; a tensor whose elements are summed is not divided."""
_SMALL: Final = 2**20
"""The size, over all ranks, up to which every rank receives all values and sums them: one exchange instead of two."""


@contextmanager
def exchanging() -> Iterator[None]:
    """Raise `RankError` if an exchange with another process fails: the process has ended, or its machine cannot be reached."""
    try:
        yield
    except RuntimeError as fault:
        closed = _CLOSED.search(str(fault))
        message = f"an exchange with another rank failed{f': {closed[1]} closed the connection' if closed else ''}"
        raise RankError(message, hint=LOGS) from fault


def tree_sum(parts: Tensor) -> Tensor:
    """Return the sum of `[n, ...]` over the first dimension, `[...]`; `n` is a power of two.

    >>> tree_sum(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor(10.)
    """
    while len(parts) > 1:
        parts = parts[0::2] + parts[1::2]
    return parts[0]


@dataclass(slots=True)
class TreeSum:
    """The sum of lists of tensors that are added one after another; it keeps at most log2(n) partial sums in memory."""

    partial: list[tuple[int, list[Tensor]]] = field(default_factory=list)
    """Sums of 2^k lists with their k, the largest first."""

    def add(self, values: list[Tensor]) -> None:
        """Add a list. The sum takes ownership of its tensors, and may change them."""
        level = 0
        while self.partial and self.partial[-1][0] == level:
            _, earlier = self.partial.pop()
            if values:
                torch._foreach_add_(earlier, values)
            values, level = earlier, level + 1
        self.partial.append((level, values))

    def total(self) -> list[Tensor]:
        """Return the sum of all lists; their number must be a power of two."""
        [(_, values)] = self.partial
        return values


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace tensors, which have the same shapes on every rank, with their sums over the ranks.

    Each rank receives a part of every rank's values, sums it, and sends the sum to all ranks: as many bytes as in a ring all-reduce. The
    messages of a bucket are sent while another bucket is summed. If there are few values, each rank receives all of them. Raise `RankError`
    if an exchange fails.
    """
    with exchanging():
        exchanges = [_Exchange(bucket) for bucket in _buckets(tensors)]
        for each in exchanges:
            each.sum()
        for each in exchanges:
            each.finish()


class _Exchange:
    """The sum of tensors of one dtype over the ranks; creating the object begins the exchange."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors, world = tensors, distributed.get_world_size()
        size = sum(each.numel() for each in tensors)
        flat = tensors[0].new_zeros(-(-size // world) * world)
        torch.cat([each.reshape(-1) for each in tensors], out=flat[:size])
        self.sent, self.world, self.is_small = flat, world, world * flat.nbytes <= _SMALL
        if self.is_small:
            self.received = flat.new_empty(world * len(flat))
            self.work = distributed.all_gather_single(self.received, flat, async_op=True)
        else:
            self.received = torch.empty_like(flat)
            self.work = distributed.all_to_all_single(self.received, flat, async_op=True)

    def sum(self) -> None:
        """Wait for the parts of all ranks, and send their sum."""
        self.work.wait()
        self.part = tree_sum(self.received.view(self.world, -1)).contiguous()
        if not self.is_small:
            self.work = distributed.all_gather_single(self.sent, self.part, async_op=True)

    def finish(self) -> None:
        """Wait for the sums of all parts, and write them into the tensors."""
        if self.is_small:
            self.sent = self.part
        else:
            self.work.wait()
        ends = [0]
        for each in self.tensors:
            ends.append(ends[-1] + each.numel())
        for each, (start, end) in zip(self.tensors, pairwise(ends), strict=True):
            each.copy_(self.sent[start:end].view_as(each))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield consecutive tensors of one dtype, as many as fit into a message."""
    bucket: list[Tensor] = []
    for each in tensors:
        size = sum(other.nbytes for other in bucket) + each.nbytes
        if bucket and (each.dtype != bucket[0].dtype or size > MESSAGE):
            yield bucket
            bucket = []
        bucket.append(each)
    if bucket:
        yield bucket


def begin_gather(values: Tensor) -> Callable[[], Tensor]:
    """Begin to send `[own shards, n]` to every rank; return a function that waits for `[shards, n]`, in the order of the shards.

    Both raise `RankError` if the exchange fails.
    """
    if not (distributed.is_initialized() and distributed.get_world_size() > 1):
        return lambda: values
    whole, sent = values.new_empty((distributed.get_world_size() * len(values), *values.shape[1:])), values.contiguous()
    with exchanging():
        work: Any = distributed.all_gather_single(whole, sent, async_op=True)

    def wait() -> Tensor:
        with exchanging():
            work.wait()
        return whole

    return wait


def begin_every_rank(integers: Any) -> Callable[[], Any]:
    """Begin to send 64-bit integers to every rank; return a function that waits for the integers of all ranks, in order.

    `integers` is a list of unsigned numbers, or an int64 tensor `[n]`; the function returns the same type. Both raise `RankError` if the
    exchange fails.
    """
    if not (distributed.is_initialized() and distributed.get_world_size() > 1):
        return lambda: integers
    if isinstance(integers, torch.Tensor):
        found = begin_gather(integers[None])
        return lambda: found().flatten()
    received = begin_gather(torch.tensor([[as_signed(each) for each in integers]], dtype=torch.int64))
    return lambda: [each % (1 << 64) for each in received().flatten().tolist()]


def as_signed(value: int) -> int:
    """Return the signed integer with the bits of an unsigned 64-bit integer."""
    return value - (1 << 64) if value >> 63 else value
