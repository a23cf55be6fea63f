"""A training script without Reprise: the same net and amount of data, Lightning's defaults. For `scripts/bench first-step`."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy


class Net(L.LightningModule):
    """Two convolutions, one pooling, one linear layer."""

    def __init__(self) -> None:
        """Create the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )
        self.accuracy = MulticlassAccuracy(num_classes=10)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the cross entropy of a batch."""
        images, labels = batch
        scores = self.layers(images)
        self.log("accuracy", self.accuracy(scores, labels))
        return nn.functional.cross_entropy(scores, labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam with default settings."""
        return torch.optim.Adam(self.parameters())

    def on_train_batch_end(self, *_: Any) -> None:
        """Print a line after the first step."""
        if self.global_step == 1:
            sys.stdout.write("first step done\n")
            sys.stdout.flush()


if __name__ == "__main__":
    samples = TensorDataset(torch.rand(1437, 1, 8, 8), torch.randint(10, (1437,)))
    L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir="/tmp").fit(  # noqa: S108 - private to the container
        Net(), DataLoader(samples, batch_size=32, shuffle=True)
    )
