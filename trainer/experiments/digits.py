"""Handwritten digits, 8x8 pixels, classified by a small convolutional net."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.tasks.classification import ClassificationSettings, Classifier


class Settings(ClassificationSettings):
    """1,437 training, 180 validation, 180 test samples."""

    dataset = "digits"
    classes = 10
    max_epochs = 10
    learning_rate = 3e-3
    schedule = "cosine"

    input_shape: list[PositiveInt] = [1, 8, 8]
    """Channels, height and width of an image."""
    channels: PositiveInt = 16
    """Channels of the first layer; the second has twice as many."""


@configured
class Net(Classifier):
    """Two convolutions, one pooling, one linear layer."""

    def __init__(self, *, input_shape: list[int], channels: int, classes: int) -> None:
        """Create the layers."""
        super().__init__()
        colors, height, width = input_shape
        self.layers = nn.Sequential(
            nn.Conv2d(colors, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * (height // 2) * (width // 2), classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class: `[batch, channels, height, width]` to `[batch, classes]`."""
        scores: Tensor = self.layers(images)
        return scores
