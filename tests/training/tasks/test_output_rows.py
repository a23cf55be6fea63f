"""Buffers of outputs keep all rows, or the rows with the largest values, for any batch size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.training.tasks.metrics import OutputRows

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 7))
def test_the_largest_rows_are_selected_in_any_order_of_arrival(values: list[int], batch: int) -> None:
    rows = OutputRows("loss", "number", by="loss", most=3)
    for at in range(0, len(values), batch):
        part = torch.tensor(values[at : at + batch])
        rows.update(loss=part, number=torch.arange(at, at + len(part)))
    best = sorted(range(len(values)), key=lambda at: -values[at])[:3]
    assert rows.columns()["number"].tolist() == best


def test_all_rows_are_collected_in_order() -> None:
    rows = OutputRows("x")
    rows.update(x=torch.tensor([1, 2]))
    rows.update(x=torch.tensor([3]))
    assert rows.columns()["x"].tolist() == [1, 2, 3]
    rows.reset()
    assert rows.columns() == {}
