"""Classification: one of several classes for each sample.

Knows the loss (cross entropy) and the metrics of a classifier. Refuses to know its net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from trainer.errors import SettingError
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


class _CrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy that says which setting a label does not fit; on a GPU such a label ends the process in CUDA's own words."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Give the loss. Raises `SettingError`."""
        try:
            return super().forward(scores, labels)
        except IndexError as fault:
            said = f"the dataset has the label {int(labels.max())}; the net gives scores for {scores.shape[1]} classes, 0 and up"
            hint = f"set classes to {int(labels.max()) + 1} or more"
            raise SettingError(said, hint=hint) from fault


@configured
def cross_entropy(*, label_smoothing: float) -> nn.CrossEntropyLoss:
    """Cross entropy of scores `[batch, classes]` and labels `[batch]`, a mean over the batch."""
    return _CrossEntropy(label_smoothing=label_smoothing)


@configured
def measures(*, classes: int) -> MetricCollection:
    """Accuracy and F1 over `classes`."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes=classes, average="micro"),
            "f1": MulticlassF1Score(num_classes=classes, average="macro"),
        }
    )
