"""Handwritten digits, 8x8 pixels, classified by a small convolutional net."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.tasks.classification import ClassificationSettings, Classifier


class Settings(ClassificationSettings):
    """Digits: 1,437 training, 180 validation, 180 test samples."""

    dataset = "digits"
    classes = 10
    max_epochs = 10
    learning_rate = 3e-3
    schedule = "cosine"

    channels: PositiveInt = 16
    """Channels of the first layer; the second has twice as many."""


@configured
class Net(Classifier):
    """Two convolutions, one pooling, one linear layer."""

    def __init__(self, *, channels: int, classes: int) -> None:
        """Create the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * 4 * 4, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class: `[batch, 1, 8, 8]` to `[batch, classes]`."""
        scores: Tensor = self.layers(images)
        return scores
