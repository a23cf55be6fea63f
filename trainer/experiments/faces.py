"""Detect whether a crop of 25x25 pixels shows a face, with a small convolutional net."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.tasks.classification import ClassificationSettings, Classifier


class Settings(ClassificationSettings):
    """140 training, 30 validation, 30 test crops."""

    dataset = "faces"
    classes = 2
    max_epochs = 20
    batch_size = 20

    input_shape: list[PositiveInt] = [1, 25, 25]
    """Channels, height and width of a crop."""
    channels: PositiveInt = 8
    """Channels of the first layer; the second has twice as many."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Fraction of the features dropped in training."""


@configured
class Net(Classifier):
    """Two convolutions with pooling, dropout, one linear layer."""

    def __init__(self, *, input_shape: list[int], channels: int, dropout: float, classes: int) -> None:
        """Create the layers."""
        super().__init__()
        colors, height, width = input_shape
        self.layers = nn.Sequential(
            nn.Conv2d(colors, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * (height // 4) * (width // 4), classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class: `[batch, channels, height, width]` to `[batch, classes]`."""
        scores: Tensor = self.layers(images)
        return scores
