"""Predict whether a customer leaves from the numbers and categories of a table: embeddings of the categories and a small net."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.normalization import Normalize
from trainer.training.tasks.classification import ClassificationSettings, Classifier, measures_with_auc
from trainer.training.tasks.task import target

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class Settings(ClassificationSettings):
    """1,600 training, 200 validation, 200 test customers."""

    dataset = "customers"
    classes = 2
    max_epochs = 20
    learning_rate = 3e-3
    weight_decay = 1e-2

    input_features: NonNegativeInt = 3
    """Number of values in the field `features`."""
    category_counts: list[PositiveInt] = [5, 6]
    """Number of codes of each column in the field `categories`."""
    width: PositiveInt = 32
    """Units of the hidden layer."""
    embedding: PositiveInt = 4
    """Dimension of the embedding of a category."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the hidden units dropped in training."""


@configured
class Net(Classifier):
    """Normalized numbers and an embedding of each category; one hidden layer. A table may lack one of the two fields."""

    input_fields = ("features", "categories")

    def __init__(
        self,
        *,
        input_features: int,
        category_counts: list[int],
        width: int,
        embedding: int,
        dropout: float,
        classes: int,
    ) -> None:
        """Create the layers."""
        super().__init__()
        sizes = (input_features, len(category_counts))
        self.fields = [name for name, size in zip(self.input_fields, sizes, strict=True) if size]
        self.normalize = Normalize(input_features, field="features") if input_features else None
        self.embeddings = nn.ModuleList(nn.Embedding(count, embedding) for count in category_counts)
        self.layers = nn.Sequential(
            nn.Linear(input_features + embedding * len(category_counts), width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, classes),
        )

    def used_fields(self) -> tuple[str, ...]:
        """Return the fields that the table has, and the label."""
        return (*self.fields, target())

    def make_metrics(self) -> MetricCollection:
        """Return accuracy, F1 and, for two classes, AUC."""
        return measures_with_auc()

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        """Return a score for each class, `[batch, classes]`, from numbers and categories, or from the field that the table has."""
        categories = second if self.normalize else first
        parts = [self.normalize(first)] if self.normalize else []
        if categories is not None:
            parts += [layer(categories[:, at]) for at, layer in enumerate(self.embeddings)]
        scores: Tensor = self.layers(torch.cat(parts, dim=1))
        return scores
