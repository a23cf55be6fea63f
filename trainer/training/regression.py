"""Regression: a number for each sample.

Knows the loss (squared error) and the metrics. Refuses to know the net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MetricCollection, R2Score

from trainer.training.settings import RegressionSettings
from trainer.training.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RegressionSettings", "Regressor"]


class Regressor(Task):
    """A net whose `forward` gives `[batch]` numbers. Metrics: mean absolute error, and R2, the share of variance explained."""

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the mean squared error."""
        return nn.MSELoss()

    def make_metrics(self) -> MetricCollection:
        """Make mean absolute error and R2."""
        return MetricCollection({"mae": MeanAbsoluteError(), "r2": R2Score()})
