"""The mean of a split's losses: of samples, not of batches."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.training.tasks.split_metrics import MeanLoss

pytestmark = pytest.mark.torch


def test_a_small_last_batch_weighs_as_little_as_it_has_samples() -> None:
    """Three samples of loss 1 and one of loss 5 have a mean of 2."""
    losses = MeanLoss()
    losses.update(torch.tensor(1.0), 3)
    losses.update(torch.tensor(5.0), torch.tensor(1))
    assert losses.compute().item() == 2
    assert losses.last is not None
    assert losses.last.item() == 5


def test_sums_keep_what_float32_would_lose() -> None:
    """Many small losses after a large one still count."""
    losses = MeanLoss()
    losses.update(torch.tensor(2.0**24), 1)
    for _ in range(8):
        losses.update(torch.tensor(0.5), 1)
    assert losses.compute().item() * 9 == 2**24 + 4


def test_a_loss_that_is_no_number_is_not_left_out() -> None:
    """The mean says so."""
    losses = MeanLoss()
    losses.update(torch.tensor(1.0), 1)
    losses.update(torch.tensor(math.nan), 1)
    assert math.isnan(losses.compute().item())
