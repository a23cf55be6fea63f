"""The mean loss of a split is a mean over samples, not over batches."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.training.tasks.metrics import R2, MeanLoss

pytestmark = pytest.mark.torch


def test_the_mean_loss_weights_a_batch_by_its_samples() -> None:
    """Three samples with loss 1 and one sample with loss 5 have a mean loss of 2."""
    losses = MeanLoss()
    losses.update(torch.tensor(1.0), 3)
    losses.update(torch.tensor(5.0), torch.tensor(1))
    assert losses.compute().item() == 2
    assert losses.last is not None
    assert losses.last.item() == 5


def test_the_mean_loss_keeps_precision_that_float32_would_lose() -> None:
    losses = MeanLoss()
    losses.update(torch.tensor(2.0**24), 1)
    for _ in range(8):
        losses.update(torch.tensor(0.5), 1)
    assert losses.compute().item() * 9 == 2**24 + 4


def test_the_mean_of_a_nan_loss_is_nan() -> None:
    losses = MeanLoss()
    losses.update(torch.tensor(1.0), 1)
    losses.update(torch.tensor(math.nan), 1)
    assert math.isnan(losses.compute().item())


def test_r2_of_large_targets_is_that_of_their_spread() -> None:
    """Seconds since 1970: the squares of the targets do not have the digits of their spread."""
    wanted = 1.7e9 + torch.arange(100, dtype=torch.float64)
    predicted = wanted + torch.sin(wanted)
    metric = R2()
    for rows in (slice(0, 7), slice(7, 90), slice(90, 90), slice(90, 100)):
        metric.update(predicted[rows], wanted[rows])
    expected = 1 - (predicted - wanted).square().sum() / (wanted - wanted.mean()).square().sum()
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-9)
