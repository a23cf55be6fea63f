"""What regression, verification and sequences say of the values of a split before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trainer.errors import DatasetError
from trainer.training.readers.blocks import Block
from trainer.training.readers.inspect import inspect_blocks
from trainer.training.tasks.regression import Regressor
from trainer.training.tasks.sequences import SequenceModel
from trainer.training.tasks.verification import Verifier

if TYPE_CHECKING:
    from trainer.training.tasks.task import Task

pytestmark = pytest.mark.torch


def judged(kind: type[Task], **splits: Any) -> list[str]:
    """The notes of a task whose every field is these values."""
    ends = np.cumsum([0, *map(len, splits.values())])
    rows = {name: np.arange(ends[at], ends[at + 1]) for at, name in enumerate(splits)}
    blocks = [Block(rows=rows[name], fields={"it": np.array(each)}) for name, each in splits.items()]
    net = object.__new__(kind)
    object.__setattr__(net, "_used", ("it", "it"))
    return kind.check_values(net, inspect_blocks(blocks, rows, name=lambda row: f"row {row}"))


def test_a_regression_notes_targets_that_tell_nothing() -> None:
    """One value, or one sample: R2 has no meaning there, and training goes on."""
    assert judged(Regressor, train=[1.0, 2.0], val=[3.0, 4.0]) == []
    assert judged(Regressor, train=[1.5, 1.5], val=[2.0, 2.0, 2.0], test=[1.0]) == [
        "all 2 targets of split train are 1.5: the net learns that number",
        "all 3 targets of split val are 2: its R2 is not defined",
        "split test has one sample, so its R2 is not defined",
    ]


def test_a_verification_notes_splits_whose_pairs_are_of_one_kind() -> None:
    """All of one class, or each of its own; negative numbers are classes too."""
    assert judged(Verifier, train=[-1, -1, 2, 2], val=[0, 0, 1]) == []
    assert judged(Verifier, train=[7, 7], val=[1, 2, 3]) == [
        "all 2 samples of split train are of class 7, so no pair differs: nothing can be learned from it",
        "each of the 3 samples of split val has a class of its own, so no pair is the same: its AUC and EER are not defined",
    ]


@pytest.mark.parametrize("value", [-1, 256])
def test_a_sequence_of_what_is_no_byte_is_rejected(value: int) -> None:
    """In every split, with its first sample."""
    assert judged(SequenceModel, train=[[0, 255]]) == []
    with pytest.raises(DatasetError, match=rf"texts of split val hold {value} \(the first in row 1\); expected bytes"):
        judged(SequenceModel, train=[[0, 255]], val=[[3, value]])
