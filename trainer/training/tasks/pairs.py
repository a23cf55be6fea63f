"""Pairs of samples, of one class or of two: what a verification learns from and is measured on.

Knows which sample goes with which: both of one split, with even chances for the same class and for another. For training the second one
follows from the run's seed, the epoch and the first one's number; in every other split from its number alone, so that all runs are
measured on the same pairs. Refuses to read a sample and to change one: the dataset's own reader does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.base.errors import DatasetError
from trainer.data.splits import select
from trainer.training.determinism.seeds import derived
from trainer.training.readers import Batch, Pick, Sample, Samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.data.declaration import Dataset
    from trainer.data.splits import Layout
    from trainer.training.readers.blocks import Block, Rows

TRAIN = "train"


class Pairs(Samples):
    """As many pairs as samples. A batch of pairs holds twice as many samples: the two of a pair are neighbours."""

    def __init__(self, singles: Samples, declared: Dataset) -> None:
        """Pair the samples of each split. Raises `DatasetError` where their classes are not known."""
        self.singles = singles
        self._in: dict[str, _Classes] = {}
        self._split = np.full(len(singles), -1, dtype=np.int8)
        for number, name in enumerate(declared.splits):
            rows = select(name, declared.splits, singles.layout, dataset=declared.name)
            labels = singles.labels(rows)
            if labels is None:
                said = f"the reader of {declared.title} gives no classes without reading whole samples"
                raise DatasetError(
                    said, hint="pairs need the readers `arrays` with one field of whole numbers, or `images`"
                )
            self._in[name] = _Classes(rows, labels)
            self._split[np.asarray(rows, dtype=np.int64)] = number

    def __len__(self) -> int:
        """The number of samples: each is the first one of a pair."""
        return len(self.singles)

    def sample(self, pick: Pick) -> Sample:
        """The first one of a pair."""
        return self.singles.sample(pick)

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Both of each pair, one after the other: `[2 * pairs, ...]`."""
        return self.singles.batch([each for pick in picks for each in (pick, self.second(pick))])

    @property
    def holds_values(self) -> bool:
        """As the samples do."""
        return self.singles.holds_values

    def blocks(self, rows: Rows) -> Iterator[Block]:
        """The samples, without pairs: each is read once."""
        return self.singles.blocks(rows)

    def second(self, pick: Pick) -> Pick:
        """The sample that goes with this one; the sample itself where it is in no split."""
        number = int(self._split[pick.index])
        if number < 0:
            return pick
        name = list(self._in)[number]
        place = (pick.run, "pair", pick.epoch) if name == TRAIN else (0, "pair", name)
        index = self._in[name].other(pick.index, derived(*place, pick.index))
        return Pick(index=index, epoch=pick.epoch, run=pick.run)

    @property
    def layout(self) -> Layout:
        """As the samples lie."""
        return self.singles.layout

    @property
    def classes(self) -> tuple[str, ...]:
        """As the samples' are called."""
        return self.singles.classes

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:
        """The first ones' classes."""
        return self.singles.labels(rows)


class _Classes:
    """The samples of a split, sorted by class."""

    def __init__(self, rows: Sequence[int], labels: Sequence[int]) -> None:
        kinds = np.asarray(labels, dtype=np.int64)
        order = np.argsort(kinds, kind="stable")
        self.rows = np.asarray(rows, dtype=np.int64)[order]
        self.kinds = kinds[order]
        self.by_number = np.argsort(self.rows, kind="stable")

    def other(self, index: int, seed: int) -> int:
        """Another sample, drawn by `seed`: its last bit says whether of the same class, where there are both."""
        at = int(self.by_number[np.searchsorted(self.rows, index, sorter=self.by_number)])
        first, end = (int(np.searchsorted(self.kinds, self.kinds[at], side=side)) for side in ("left", "right"))
        same, others = end - first - 1, len(self.rows) - (end - first)
        number = seed >> 1
        if same and (seed & 1 or not others):
            chosen = first + number % same
            return int(self.rows[chosen + (chosen >= at)])
        if not others:
            return index
        chosen = number % others
        return int(self.rows[chosen if chosen < first else chosen + (end - first)])
