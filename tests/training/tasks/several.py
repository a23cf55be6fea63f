"""An experiment for tests with two outputs: a digit's class, and its number by regression."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from trainer.training.normalization import Normalize
from trainer.training.tasks.multi_task import MultiTask, MultiTaskSettings, Output


class Settings(MultiTaskSettings):
    """The settings for the digits."""

    dataset: str = "digits"


class Net(MultiTask):
    """A net with one linear layer for each output."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Normalize(1)
        self.digit, self.ink = nn.Linear(64, 10), nn.Linear(64, 1)

    def make_outputs(self) -> dict[str, Output]:
        accuracy = MulticlassAccuracy(num_classes=10, average="micro")
        return {
            "digit": Output(field="label", loss=nn.CrossEntropyLoss(), metrics={"accuracy": accuracy}),
            "ink": Output(field="label", loss=_squared, weight=0.1),
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pixels = self.scale(images).flatten(1)
        return {"digit": self.digit(pixels), "ink": self.ink(pixels)[:, 0]}


def _squared(predicted: Tensor, wanted: Tensor) -> Tensor:
    return torch.nn.functional.mse_loss(predicted, wanted.to(predicted.dtype))
