"""The inputs of a plain module's test, compared with the fields that the reader of its dataset reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from trainer.models import evaluation
from trainer.training.data import RunData

if TYPE_CHECKING:
    from trainer.training.readers.samples import Batch

pytestmark = pytest.mark.torch
FIELD = [[math.nan, 1.0], [2.0, 3.0]]


class Data(RunData):
    """A test split of two samples."""

    def tested_example(self, count: int) -> Batch:
        """Return the first samples."""
        return {"x": torch.tensor(FIELD)[:count]}


@pytest.mark.parametrize(
    ("values", "dtype", "is_equal"),
    [
        (FIELD, torch.float32, True),
        (FIELD[:1], torch.float64, True),
        ([[0.0, 1.0], [2.0, 3.0]], torch.float32, False),
        ([[0, 1]], torch.int64, False),
        ([[math.nan, 1.0, 0.0]], torch.float32, False),
    ],
    ids=["missing values", "precision", "replaced", "type", "shape"],
)
def test_inputs_are_compared_with_the_published_fields(
    values: list[list[float]], dtype: torch.dtype, *, is_equal: bool
) -> None:
    split = evaluation.TestSplit.__new__(evaluation.TestSplit)
    split._data = Data.__new__(Data)  # a data module of a run needs a dataset
    assert split.begins_with("x", torch.tensor(values, dtype=dtype)) is is_equal
