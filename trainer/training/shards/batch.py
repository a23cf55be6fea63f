"""The shards of a batch that belong to one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.training.tracing.fingerprints import tensors_in

if TYPE_CHECKING:
    from collections.abc import Sequence


class Shards(tuple[Any, ...]):
    """The consecutive shards of a batch, each read as a separate batch; a type of its own, because a batch may be a tuple."""

    __slots__ = ()


def parts_of(batch: object) -> Sequence[Any]:
    """Return the shards of a batch, or the batch itself if it is not split.

    >>> parts_of(Shards(["a", "b"])), parts_of("c")
    (('a', 'b'), ('c',))
    """
    return batch if isinstance(batch, Shards) else (batch,)


def samples_in(batch: object) -> int:
    """Return the number of samples of a batch or of its shards: the length of the first tensor."""
    return sum(len(next(tensors_in(part), ())) for part in parts_of(batch))
