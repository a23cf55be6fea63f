"""Labels are class numbers from 0: an error names the split, the count, the first sample and a hint."""

from __future__ import annotations

import pytest

from tests.training.tasks.test_task import make_inspection
from trainer.base.errors import DatasetError, RepriseError, SettingError
from trainer.training.tasks.classification import not_trained_on, require_classes

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("labels", "error", "message", "hint"),
    [
        (
            {"train": [0, 1], "test": [1, -1, -1]},
            DatasetError,
            r"2 samples of split test have the label -1 \(the first is in row 3\); a class is 0 or",
            "drop",
        ),
        (
            {"train": [-100, 1], "val": [0]},
            DatasetError,
            r"1 sample of split train has the label -100 \(row 0\)",
            "torch's loss leaves such",
        ),
        (
            {"train": [1, 2, 2], "val": [1]},
            DatasetError,
            "2 samples of split train have the label 2 .*; no label is 0, so labels begin at 1",
            "subtract 1 from the labels and publish them again",
        ),
        ({"train": [1, 2, 3]}, DatasetError, "labels begin at 1", "publish them again, and set classes to 3"),
        (
            {"train": [0, 1], "val": [2]},
            SettingError,
            "1 sample of split val has the label 2 .*scores for 2 classes, 0 to 1",
            "set classes to 3",
        ),
        (
            {"train": [0, 1, 2, 3, 5], "val": [5], "test": [9]},
            SettingError,
            "1 sample of split test has the label 9",
            "set classes to 10",
        ),
        (
            {"train": [0, -1], "val": [-1, -1]},
            DatasetError,
            "1 sample of split train and 2 of split val have the label -1",
            "drop",
        ),
        (
            {"train": [0, 1, 255], "val": [255]},
            DatasetError,
            "have the label 255 .*; 255 commonly marks .* every other label is 1 or less",
            "drop those samples",
        ),
        (
            {"train": [0, 4, 255]},
            DatasetError,
            "255 commonly marks labels to ignore",
            "drop those samples, and set classes to 5",
        ),
        (
            {"train": [10, 20, 20]},
            DatasetError,
            "have the label 20 .*; there are 2 distinct labels",
            "publish numbers from 0 to 1: numpy.unique",
        ),
        ({"train": [0, 255, 255]}, DatasetError, "there are 2 distinct labels", "publish numbers from 0 to 1"),
        ({"train": list(range(256))}, SettingError, "has the label 255", "set classes to 256"),
        (
            {"train": [[0, 1], [255, 0]]},
            DatasetError,
            r"labels of split train include 255 \(the first is in row 1\)",
            "Labels to ignore",
        ),
        (
            {"train": list(range(2000))},
            SettingError,
            r"labels of split train include 1999 \(the first is in row 1999\)",
            "set classes to 2000",
        ),
    ],
)
def test_a_label_outside_the_classes_is_named(
    labels: dict[str, list[int]], error: type[RepriseError], message: str, hint: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        require_classes(make_inspection(**labels).field("label"), classes=2)
    assert hint in str(caught.value.hint)


def test_labels_that_start_at_1_are_not_an_error() -> None:
    """The labels are not necessarily shifted, so the class without samples is only noted."""
    labels = make_inspection(train=[1, 2, 2], val=[0]).field("label")
    require_classes(labels, classes=3)
    assert list(not_trained_on(labels, ["cat", "1", "2"])) == ["class 0 (cat) has no sample in split train"]


def test_many_classes_without_samples_are_counted() -> None:
    (note,) = not_trained_on(make_inspection(train=[0, 1]).field("label"), [str(at) for at in range(20)])
    assert note == "18 of 20 classes have no sample in split train: 2, 3, 4, 5, 6 and 13 more"
