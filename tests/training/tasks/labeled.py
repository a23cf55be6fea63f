"""An experiment for tests that predicts three labels of a digit: even, above 4, round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainer.training.tasks.multi_label import MultiLabelClassifier, MultiLabelSettings

if TYPE_CHECKING:
    from trainer.training.readers import Batch


class Settings(MultiLabelSettings):
    """The settings for three labels."""

    dataset: str = "digits"
    labels: int = 3
    target_field: str = "label"


class Net(MultiLabelClassifier):
    """A net with one linear layer."""

    def __init__(self, *, labels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, labels))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.layers(images)
        return scores

    def split_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, digits = super().split_batch(batch)
        return images, torch.stack([digits % 2 == 0, digits > 4, (digits == 0) | (digits > 7)], dim=1)
