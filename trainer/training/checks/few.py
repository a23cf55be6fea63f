"""The first samples of each split, as a small dataset of their own: what takes minutes on all of them takes seconds on these."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from trainer.training.readers.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.training.readers.samples import Batch, Pick, Sample


class Few(Samples):
    """Some samples of others, by their numbers there."""

    def __init__(self, whole: Samples, rows: Sequence[int]) -> None:
        """Take these."""
        self.whole, self.rows = whole, list(rows)

    def __len__(self) -> int:
        """How many were taken."""
        return len(self.rows)

    def sample(self, pick: Pick) -> Sample:
        """Have it read."""
        return self.whole.sample(self._there(pick))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Have them read together."""
        return self.whole.batch([self._there(pick) for pick in picks])

    @property
    def classes(self) -> tuple[str, ...]:
        """As they are called there."""
        return self.whole.classes

    def _there(self, pick: Pick) -> Pick:
        return type(pick)(index=self.rows[pick.index], epoch=pick.epoch, run=pick.run)


def few_of(declared: Dataset, whole: Samples, rows: Mapping[str, Sequence[int]]) -> tuple[Dataset, Few]:
    """Take these rows of each split; give a declaration whose splits they are."""
    ends = list(accumulate((len(each) for each in rows.values()), initial=0))
    splits: dict[str, Any] = dict(zip(rows, pairwise(ends), strict=True))
    return declared.model_copy(update={"splits": splits}), Few(whole, [row for each in rows.values() for row in each])
