"""Neighboring samples of streamed datasets: a shuffle with a window reads them together, and the cache fetches and evicts them together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from trainer.base.suggestions import counted, listed
from trainer.training.determinism.seeds import block_of
from trainer.training.readers.samples import Pick

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.training.readers.samples import Rows, Samples

_MANY: Final = 1000
"""Number of training samples below which a full shuffle is not slow."""
_SMALL: Final = 128 << 10
"""Bytes of a sample below which a request takes longer than the transfer of the sample."""
_LOOKED_AT: Final = 64
"""Approximate number of samples that are examined to find whether samples are in the order of their files."""
_DOCUMENTED: Final = "docs/how-to/datasets.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighborhood:
    """The samples of a run, and how they are shuffled. Decides which samples the caches keep together."""

    samples: Samples
    window: int | None
    """The number of samples in a window; `None` for a full shuffle."""
    devices: int = 1
    """The number of devices. With several, each process reads only some samples of a block, so blocks are not kept together."""

    @property
    def _mean(self) -> float:
        """The mean size of a sample in bytes."""
        return sum(each.dataset.bytes for each in self.samples.streamed) / max(1, len(self.samples))

    @property
    def _largest(self) -> int:
        """The number of samples in the largest window: one that takes half of the smallest cache limit, rounded up."""
        return math.ceil(min(each.source.budget.limit for each in self.samples.streamed) / 2 / max(1.0, self._mean))

    def join(self, splits: Iterable[Sequence[int]]) -> None:
        """Let the caches keep the blocks of `splits` together, if one device trains with a window that fits in half of each cache."""
        if self.window is None or self.devices > 1 or not self.samples.streamed or self.window > self._largest:
            return
        starts = _starts(self.samples, _borders(splits, len(self.samples), block=block_of(self.window)))
        for each in self.samples.streamed:
            each.regroup(starts.get(each, ()))

    def notice(self, count: int) -> str | None:
        """Return a notice if nearly each of the `count` samples of a streamed training split needs its own request; otherwise `None`."""
        if not self.samples.streamed or self.devices > 1 or self._mean > _SMALL or count < _MANY:
            return None
        fits = self._largest // 2
        if block_of(fits) == 1 or not self._has_small_files() or (self.window and self.window <= self._largest):
            return None
        why = (
            f"a window of {self.window:,} is more than half of the cache's limit"
            if self.window
            else "all samples are shuffled"
        )
        title = listed(each.dataset.title for each in self.samples.streamed)
        message = f"{title}: nearly each of {counted(count, 'sample')} of train needs a request, because {why}"
        return f"{message}; --shuffle-window {fits} fetches neighbors together ({_DOCUMENTED})"

    def _has_small_files(self) -> bool:
        """Return whether the examined samples begin in different chunks, in the order of the files."""
        some = np.arange(0, len(self.samples), max(1, len(self.samples) // _LOOKED_AT))
        starts = _starts(self.samples, some)
        return starts.keys() == {*self.samples.streamed} and all(len({*each}) == len(each) for each in starts.values())


def _borders(splits: Iterable[Sequence[int]], count: int, *, block: int) -> Rows:
    """Return the samples at which a block of a split begins, or a run of consecutive samples begins or has ended."""
    found = [np.empty(0, dtype=np.int64)]
    for rows in map(np.asarray, splits):
        breaks = np.flatnonzero(np.diff(rows) != 1)
        found += [rows[::block], rows[breaks] + 1, rows[breaks + 1], rows[-1:] + 1]
    borders = np.unique(np.concatenate(found))
    return borders[borders < count]


def _starts(samples: Samples, borders: Rows) -> dict[StreamedDataset, list[int]]:
    """Return the chunks in which the samples `borders` begin, for each dataset whose samples are in the order of its files."""
    found: dict[StreamedDataset, dict[int, list[int]]] = {}
    for row in borders.tolist():
        for number, (files, path, first, end) in enumerate(samples.pieces(Pick(index=row))):
            streamed = cast("StreamedDataset", files)
            chunk = next(streamed.chunk_ids(path, first, end), None)
            if chunk is not None:
                found.setdefault(streamed, {}).setdefault(number, []).append(chunk)
    return {
        each: [chunk for column in columns.values() for chunk in column]
        for each, columns in found.items()
        if all(one <= other for column in columns.values() for one, other in pairwise(column))
    }
