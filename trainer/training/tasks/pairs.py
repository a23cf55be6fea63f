"""Pairs of samples for verification, of the same class or of different classes.

Both samples of a pair are from one split; the same class and another class are equally likely. In training the second sample depends on
the run's seed, the epoch and the first sample's number; in every other split only on the number, so that all runs are measured on the
same pairs.
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
    from trainer.training.readers.samples import Block, Rows

TRAIN = "train"


class Pairs(Samples):
    """One pair per sample. A batch of pairs holds twice as many samples: the samples of a pair are neighbors."""

    def __init__(self, singles: Samples, declared: Dataset) -> None:
        """Pair the samples of each split; raise `DatasetError` if the classes of the samples are not known."""
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
        """Return the number of samples: each is the first sample of a pair."""
        return len(self.singles)

    def sample(self, pick: Pick) -> Sample:
        """Return the first sample of a pair."""
        return self.singles.sample(pick)

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Return both samples of each pair, one after the other: `[2 * pairs, ...]`."""
        return self.singles.batch([each for pick in picks for each in (pick, self.second(pick))])

    @property
    def holds_values(self) -> bool:
        """Whether the wrapped reader holds values."""
        return self.singles.holds_values

    def blocks(self, rows: Rows) -> Iterator[Block]:
        """Return the blocks of the single samples: each sample is read once."""
        return self.singles.blocks(rows)

    def second(self, pick: Pick) -> Pick:
        """Return the second sample of a pair; a sample that is in no split is paired with itself."""
        number = int(self._split[pick.index])
        if number < 0:
            return pick
        name = list(self._in)[number]
        place = (pick.run, "pair", pick.epoch) if name == TRAIN else (0, "pair", name)
        index = self._in[name].other(pick.index, derived(*place, pick.index))
        return Pick(index=index, epoch=pick.epoch, run=pick.run)

    @property
    def layout(self) -> Layout:
        """The layout of the single samples."""
        return self.singles.layout

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.singles.classes

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:
        """Return the classes of the single samples."""
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
        """Return another sample, drawn by `seed`: the last bit selects the same class or another class, if both exist."""
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
