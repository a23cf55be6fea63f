"""A small dataset of the first samples of each split, for checks that would take minutes with all samples."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from trainer.training.readers.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.training.readers.samples import Batch, Pick, Sample


class Few(Samples):
    """A selection of samples by their numbers."""

    def __init__(self, whole: Samples, rows: Sequence[int]) -> None:
        """Select the samples `rows` of `whole`."""
        self.whole, self.rows = whole, list(rows)

    def __len__(self) -> int:
        """Return the number of selected samples."""
        return len(self.rows)

    def sample(self, pick: Pick) -> Sample:
        """Read a sample."""
        return self.whole.sample(self._there(pick))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Read a batch of samples."""
        return self.whole.batch([self._there(pick) for pick in picks])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.whole.classes

    def _there(self, pick: Pick) -> Pick:
        return type(pick)(index=self.rows[pick.index], epoch=pick.epoch, run=pick.run)


def few_of(declared: Dataset, whole: Samples, rows: Mapping[str, Sequence[int]]) -> tuple[Dataset, Few]:
    """Return a dataset of these rows of each split, and a declaration with its splits."""
    ends = list(accumulate((len(each) for each in rows.values()), initial=0))
    splits: dict[str, Any] = dict(zip(rows, pairwise(ends), strict=True))
    return declared.model_copy(update={"splits": splits}), Few(whole, [row for each in rows.values() for row in each])
