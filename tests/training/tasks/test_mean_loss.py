"""The mean loss and R2 of a split are those of all its samples, whatever the batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainer.training.tasks.metrics import R2, MeanLoss, loss_weight

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


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 4.0, 0.5]), label_smoothing=0.1),
        nn.NLLLoss(ignore_index=0, weight=torch.tensor([1.0, 4.0, 0.5])),
        F.cross_entropy,
        nn.MSELoss(),
    ],
    ids=lambda loss: getattr(loss, "__name__", repr(loss)),
)
def test_a_loss_that_ignores_or_weighs_targets_has_the_mean_of_the_whole_split(loss: Any) -> None:
    scores = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    ignored = getattr(loss, "ignore_index", -100)
    labels = torch.tensor([0, 1, 2, ignored, 2, 2, 1, 0, ignored])
    targets = scores.flip(0) if isinstance(loss, nn.MSELoss) else labels
    losses = MeanLoss()
    for rows in (slice(0, 4), slice(4, 6), slice(6, 9)):
        losses.update(loss(scores[rows], targets[rows]), loss_weight(loss, targets[rows]))
    assert losses.compute().item() == pytest.approx(loss(scores, targets).item(), rel=1e-6)


def test_r2_of_large_targets_is_that_of_their_spread() -> None:
    """Seconds since 1970: the squares of the targets do not have the digits of their spread."""
    wanted = 1.7e9 + torch.arange(100, dtype=torch.float64)
    predicted = wanted + torch.sin(wanted)
    metric = R2()
    for rows in (slice(0, 7), slice(7, 90), slice(90, 90), slice(90, 100)):
        metric.update(predicted[rows], wanted[rows])
    expected = 1 - (predicted - wanted).square().sum() / (wanted - wanted.mean()).square().sum()
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-9)
    metric.reset()
    assert torch.isfinite(metric(predicted[:50], wanted[:50]))
    metric(predicted[50:], wanted[50:])
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-9)
