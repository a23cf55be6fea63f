"""Test samples that are in train: the same row, equal bytes, overlapping windows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from trainer.data.declaration import Dataset
from trainer.data.reader import TextReader
from trainer.data.splits import Layout
from trainer.training.assembly import FetchedDataset
from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck
from trainer.training.checks.splits import _describe_compared, _sample_limit, _spaced_rows, splitting
from trainer.training.readers import Pick, Sample, Samples
from trainer.training.readers.byte_samples import Windows
from trainer.training.readers.joined import JoinedSamples, RolePart
from trainer.training.readers.synthetic import SyntheticFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.torch


class Rows(Samples):
    def __init__(self, values: Sequence[float], *, noise: bool = False, size: int = 4) -> None:
        self.values, self.noise, self.size = values, noise, size

    def __len__(self) -> int:
        return len(self.values)

    def sample(self, pick: Pick) -> Sample:
        value = torch.full((self.size,), self.values[pick.index])
        drawn = torch.rand(self.size, generator=pick.generator()) if self.noise else 0
        return {"image": value + drawn, "label": torch.tensor(pick.index)}


def check_splits(samples: Samples, train: Sequence[int], val: Sequence[int], test: Sequence[int], **more: Any) -> str:
    given = {"made_up": False, "reader": None, "data": None} | more
    dataset = SimpleNamespace(declared=SimpleNamespace(reader=given["reader"]), files=given["data"], splits=())
    subject = SimpleNamespace(made_up=given["made_up"], datasets=[dataset])
    rows = {"train": train, "val": val, "test": test}
    trial: Any = SimpleNamespace(samples=samples, rows=rows, subject=subject, input_field="image")
    return splitting(trial)


def test_disjoint_splits_pass() -> None:
    output = check_splits(Rows([1, 1, 2, 3, 3, 4]), [0, 1], [2], [3, 4, 5])
    assert output == "no sample is in two splits (all 6 samples compared)"


def test_equal_samples_are_reported_with_examples() -> None:
    with pytest.raises(CheckNote) as caught:
        check_splits(Rows([1, 2, 3, 9, 1, 5, 6, 7]), [0, 1, 2], [3], [4, 5, 6, 7])
    assert caught.value.message == "1 of 4 samples of test (25.0% of its bytes) is in train (all 8 samples compared)"
    assert caught.value.hint == "test 4 and train 0"


def test_a_test_split_that_is_mostly_in_training_fails() -> None:
    with pytest.raises(CheckFailed, match=r"2 of 3 samples of test \(66.7% of its bytes\) are in train"):
        check_splits(Rows([1, 2, 3, 9, 1, 2, 6]), [0, 1, 2], [3], [4, 5, 6])


def test_a_sample_in_two_splits_fails() -> None:
    with pytest.raises(CheckFailed, match=r"^1 sample is in train and in test; the first is 2"):
        check_splits(Rows(range(5)), [0, 1, 2], [3], [2, 4])


def test_of_many_samples_a_counted_subset_is_compared() -> None:
    rows = {"train": range(4_000), "val": range(4_000, 4_400), "test": range(4_400, 5_000)}
    compared = _spaced_rows(rows, most=_sample_limit(Rows(range(9), size=1 << 20), 0))
    assert {name: len(each) for name, each in compared.items()} == {"val": 200, "test": 200, "train": 500}
    assert (
        _describe_compared(compared, rows) == "compared: 500 of 4,000 of train, 200 of 400 of val, 200 of 600 of test"
    )


class FileRows(Rows):
    @property
    def layout(self) -> Layout:
        return Layout(count=len(self), files=[f"{row}.png" for row in range(len(self))])

    def entry(self, path: str) -> Any:
        return SimpleNamespace(sha256=str(self.values[int(path.removesuffix(".png"))]), size=10)


def test_files_are_compared_by_digest() -> None:
    samples = FileRows([1, 2, 3, 9, 1, 5, 6], noise=True)
    with pytest.raises(CheckNote) as caught:
        check_splits(samples, [0, 1, 2], [3], [4, 5, 6], data=samples)
    assert caught.value.hint == "test 4.png and train 0.png"


def test_samples_that_change_between_epochs_cannot_be_compared() -> None:
    with pytest.raises(NothingToCheck, match="augmentation"):
        check_splits(Rows([1, 1, 1], noise=True), [0], [1], [2])
    with pytest.raises(NothingToCheck, match="synthetic"):
        check_splits(Rows([1, 1, 1]), [0], [1], [2], made_up=True)


def test_overlapping_windows_are_counted() -> None:
    reader = TextReader(kind="text", file="a", window=8, stride=2)
    windows = Windows(SyntheticFiles({"a": bytes(range(200))}), reader)
    with pytest.raises(CheckNote) as caught:
        check_splits(windows, range(60), range(60, 70), range(70, 90), reader=reader)
    assert caught.value.message.startswith(
        "3 of 10 samples of val (30.0% of its bytes) share bytes with windows of train"
    )
    assert str(caught.value.hint).startswith("val 60 and train 57")
    with pytest.raises(CheckFailed, match="share bytes"):
        check_splits(windows, range(0, 90, 3), range(1, 90, 3), range(2, 90, 3), reader=reader)
    apart = TextReader(kind="text", file="a", window=8)
    output = check_splits(
        Windows(SyntheticFiles({"a": bytes(range(200))}), apart),
        range(10),
        range(10, 14),
        range(14, 20),
        reader=apart,
    )
    assert output == "no sample is in two splits (all windows compared)"


def test_windows_of_two_files_share_nothing() -> None:
    reader = TextReader(kind="text", file=("a", "b"), window=8, stride=2)
    windows = Windows(SyntheticFiles({"a": bytes(17), "b": bytes(17)}), reader)
    assert len(windows) == 10
    assert (
        check_splits(windows, range(5), range(5, 7), range(9, 10), reader=reader)
        == "no sample is in two splits (all windows compared)"
    )
    with pytest.raises(CheckFailed, match="1 of 1 sample of test"):
        check_splits(windows, range(5, 9), range(5), range(9, 10), reader=reader)


def joined(parts: Sequence[tuple[Samples, Any, Any]]) -> tuple[JoinedSamples, list[FetchedDataset]]:
    """Join samples, files and readers of two datasets: the first provides train and val, the second test."""
    found, datasets = [], []
    for (samples, files, reader), name, splits in zip(
        parts, ("one", "two"), (("train", "val"), ("test",)), strict=True
    ):
        values: Any = {"name": name, "version": 1, "reader": reader}
        declared = Dataset.model_construct(**values)
        found.append(RolePart(declared=declared, samples=samples, splits=splits))
        datasets.append(FetchedDataset(declared=declared, files=files, splits=splits))
    return JoinedSamples(found), datasets


def check_joined(samples: JoinedSamples, datasets: list[FetchedDataset], *rows: range) -> str:
    subject = SimpleNamespace(made_up=False, datasets=datasets)
    named = dict(zip(("train", "val", "test"), rows, strict=True))
    return splitting(cast("Any", SimpleNamespace(samples=samples, rows=named, subject=subject, input_field="text")))


def test_files_of_two_datasets_are_compared_by_digest() -> None:
    one, two = FileRows([1, 2, 3, 4], noise=True), FileRows([2, 9], noise=True)
    samples, datasets = joined([(one, one, None), (two, two, None)])
    with pytest.raises(CheckNote, match=r"1 of 2 samples of test .* is in train") as caught:
        check_joined(samples, datasets, range(3), range(3, 4), range(4, 6))
    assert caught.value.hint == "test 0.png of two@1 and train 1.png of one@1"


def test_overlaps_in_a_text_and_equal_windows_of_two_texts_are_both_found() -> None:
    reader = TextReader(kind="text", file="a", window=8, stride=4)
    texts = [SyntheticFiles({"a": body}) for body in (bytes(range(100)), bytes(range(100, 150)) + bytes(range(4, 30)))]
    samples, datasets = joined([(Windows(text, reader), text, reader) for text in texts])
    first, count = len(samples.parts[0].samples), len(samples)
    with pytest.raises(CheckNote) as caught:
        check_joined(samples, datasets, range(15), range(15, first), range(first, count))
    assert "1 of 8 samples of val (12.5% of its bytes) shares bytes with windows of train" in caught.value.message
    assert "of test" not in caught.value.message
    equal = SyntheticFiles({"a": bytes(range(8, 30)) + bytes(50)})
    samples, datasets = joined([(Windows(texts[0], reader), texts[0], reader), (Windows(equal, reader), equal, reader)])
    with pytest.raises(CheckNote, match=r"4 of 16 samples of test .* are in train"):
        check_joined(samples, datasets, range(10), range(12, first), range(first, len(samples)))
