"""The code of experiments for kinds of nets that the repository's experiments do not cover."""

from __future__ import annotations

from typing import Final

MULTI_TASK: Final = """
from torch import nn
from torch.nn import functional as F
from trainer.training.tasks.multi_task import MultiTask, MultiTaskSettings, Output

class Settings(MultiTaskSettings):
    dataset = "dots"
    max_epochs = 1
    batch_size = 8

class Net(MultiTask):
    def __init__(self) -> None:
        super().__init__()
        self.kind, self.ink = nn.Linear(16, 2), nn.Linear(16, 1)

    def make_outputs(self):
        return {
            "kind": Output(field="label", loss=nn.CrossEntropyLoss()),
            "ink": Output(field="label", loss=lambda found, wanted: F.mse_loss(found, wanted.float())),
        }

    def forward(self, images):
        flat = images.flatten(1)
        return {"kind": self.kind(flat), "ink": self.ink(flat)[:, 0]}
"""
MULTI_LABEL: Final = """
from torch import nn
from trainer.training.tasks.multi_label import MultiLabelClassifier, MultiLabelSettings

class Settings(MultiLabelSettings):
    dataset = "tags"
    labels = 3

class Net(MultiLabelClassifier):
    def __init__(self, *, labels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, labels))

    def forward(self, numbers):
        return self.layers(numbers)
"""
TWO_INPUTS: Final = """
import torch
from torch import nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "sized"
    classes = 2

class Net(Classifier):
    input_fields = ("image", "size")

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.sizes, self.layer = nn.Embedding(5, 3), nn.Linear(19, classes)

    def forward(self, images, sizes):
        return self.layer(torch.cat([images.flatten(1), self.sizes(sizes)], dim=1))
"""
PLAIN: Final = """
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F

class Plain(L.LightningModule):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.BatchNorm1d(width), nn.Linear(width, 2))

    def forward(self, image):
        return self.layers(image)

    def training_step(self, batch, index):
        return F.cross_entropy(self(batch["image"]), batch["label"])

    def test_step(self, batch, index):
        self.log("test_loss", F.cross_entropy(self(batch["image"]), batch["label"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""
PLAIN_TENSORS: Final = PLAIN.replace("class Plain(", "class Renamed(").replace(
    "forward(self, image):\n        return self.layers(image)", "forward(self, x):\n        return self.layers(x)"
)
"""A module whose parameter is not the name of a field."""
