"""Pairs are within a split, have one class or two, and are determined by their index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset
from trainer.data.reader import ArraysReader
from trainer.training.readers import Pick, Sample, Samples
from trainer.training.tasks.verification import Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.torch
NOTHING = f"sha256:{'0' * 64}"
READER = ArraysReader(kind="arrays", fields={"label": "y.npy"})


class LabeledSamples(Samples):
    def __init__(self, labels: Sequence[int], *, has_labels: bool = True) -> None:
        self.kinds, self.has_labels = list(labels), has_labels

    def __len__(self) -> int:
        return len(self.kinds)

    def sample(self, pick: Pick) -> Sample:
        return {"number": torch.tensor(pick.index), "label": torch.tensor(self.kinds[pick.index])}

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:
        return [self.kinds[row] for row in rows] if self.has_labels else None


def make_pairs(labels: Sequence[int], train: int, *, has_labels: bool = True) -> Pairs:
    """Return pairs of a dataset whose first `train` samples are the split train, and whose other samples are the split test."""
    splits = {"train": (0, train), "test": (train, len(labels))}
    dataset = Dataset(
        name="a", version=1, manifest=NOTHING, content=NOTHING, files=1, bytes=1, splits=splits, reader=READER
    )
    return Pairs(LabeledSamples(labels, has_labels=has_labels), dataset)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.data())
def test_pairs_stay_in_their_split_and_have_two_samples(labels: list[int], data: st.DataObject) -> None:
    train = data.draw(st.integers(1, len(labels) - 1))
    index = data.draw(st.integers(0, len(labels) - 1))
    pick = Pick(index=index, epoch=data.draw(st.integers(0, 9)), run=data.draw(st.integers(0, 9)))
    second = make_pairs(labels, train).second(pick)
    assert (index < train) == (second.index < train)
    alone = (train if index < train else len(labels) - train) == 1
    assert (second.index == index) == alone
    assert (second.epoch, second.run) == (pick.epoch, pick.run)


def test_half_of_the_pairs_share_a_class_and_every_partner_occurs() -> None:
    pairs = make_pairs([0] * 4 + [1] * 8 + [0, 1], 12)
    found = [pairs.second(Pick(index=1, epoch=epoch)).index for epoch in range(2000)]
    assert set(found) == set(range(12)) - {1}
    assert 0.45 < sum(index < 4 for index in found) / len(found) < 0.55


def test_a_split_of_one_class_has_pairs_of_that_class() -> None:
    pairs = make_pairs([5, 5, 5, 1, 2], 3)
    assert {pairs.second(Pick(index=0, epoch=epoch)).index for epoch in range(50)} == {1, 2}
    assert {pairs.second(Pick(index=4, epoch=epoch)).index for epoch in range(5)} == {3}


def test_only_training_pairs_change_with_epoch_and_seed() -> None:
    pairs = make_pairs([0, 1] * 20, 20)
    train = {pairs.second(Pick(index=3, epoch=epoch, run=run)).index for epoch in range(9) for run in range(2)}
    test = {pairs.second(Pick(index=30, run=run)).index for run in range(9)}
    assert (len(train) > 4, len(test)) == (True, 1)
    assert pairs.second(Pick(index=3, epoch=2)) == make_pairs([0, 1] * 20, 20).second(Pick(index=3, epoch=2))


def test_the_two_samples_of_a_pair_are_adjacent_in_a_batch() -> None:
    pairs = make_pairs([0, 1] * 20, 20)
    picks = [Pick(index=3), Pick(index=7)]
    assert pairs.batch(picks)["number"].tolist() == [3, pairs.second(picks[0]).index, 7, pairs.second(picks[1]).index]


def test_a_reader_without_labels_cannot_make_pairs() -> None:
    with pytest.raises(DatasetError, match="the reader of a@1 returns no classes"):
        make_pairs([0, 1], 1, has_labels=False)
