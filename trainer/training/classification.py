"""Classification: one of several classes for each sample.

Knows the loss (cross entropy) and the metrics of a classifier. Refuses to know its net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from trainer.ledger import configured
from trainer.training.settings import ClassificationSettings
from trainer.training.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ClassificationSettings", "Classifier"]


class Classifier(Task):
    """A net whose `forward` gives `[batch, classes]` scores. Metrics: accuracy over samples, F1 averaged over classes."""

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the cross entropy."""
        return cross_entropy()

    def make_metrics(self) -> MetricCollection:
        """Make accuracy and F1."""
        return measures()


@configured
def cross_entropy(*, label_smoothing: float) -> nn.CrossEntropyLoss:
    """Cross entropy of scores `[batch, classes]` and labels `[batch]`, a mean over the batch."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)


@configured
def measures(*, classes: int) -> MetricCollection:
    """Accuracy and F1 over `classes`."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes=classes, average="micro"),
            "f1": MulticlassF1Score(num_classes=classes, average="macro"),
        }
    )
