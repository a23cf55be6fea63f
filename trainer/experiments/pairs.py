"""Decide if two handwritten digits are of the same class by the distance between their embeddings."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.tasks.verification import VerificationSettings, Verifier


class Settings(VerificationSettings):
    """In every epoch each digit is paired with a new digit of the same or of another class."""

    dataset = "digits"
    max_epochs = 20
    learning_rate = 3e-3
    schedule = "cosine"

    input_shape: list[PositiveInt] = [1, 8, 8]
    """Channels, height and width of an image."""
    channels: PositiveInt = 16
    """Channels of the convolution."""
    dimensions: PositiveInt = 16
    """Dimension of the embeddings."""


@configured
class Net(Verifier):
    """One convolution, one pooling, two linear layers."""

    def __init__(self, *, input_shape: list[int], channels: int, dimensions: int) -> None:
        """Create the layers."""
        super().__init__()
        colors, height, width = input_shape
        self.layers = nn.Sequential(
            nn.Conv2d(colors, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(channels * (height // 2) * (width // 2), 64),
            nn.ReLU(),
            nn.Linear(64, dimensions, bias=False),  # a bias would cancel in every distance
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return an embedding of each digit: `[batch, channels, height, width]` to `[batch, dimensions]`."""
        embeddings: Tensor = self.layers(images)
        return embeddings
