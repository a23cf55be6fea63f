"""Squares and discs in 16x16 pixels, segmented by a small convolutional net."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.tasks.segmentation import SegmentationSettings, Segmenter


class Settings(SegmentationSettings):
    """200 training, 50 validation, 50 test pictures."""

    dataset = "masks"
    classes = 3
    max_epochs = 10
    batch_size = 10
    learning_rate = 1e-2
    schedule = "cosine"

    channels: PositiveInt = 16
    """Channels of the hidden layers."""


@configured
class Net(Segmenter):
    """Two convolutions with batch normalization, one linear layer for each pixel."""

    def __init__(self, *, channels: int, classes: int) -> None:
        """Create the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 5, padding=2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 5, padding=2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return a score for each class at each pixel: `[batch, 1, 16, 16]` to `[batch, classes, 16, 16]`."""
        scores: Tensor = self.layers(images)
        return scores
