"""A classifier whose training step logs values and updates metrics in all usual ways."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MaxMetric, MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score


class Measured(L.LightningModule):
    """A module that logs values, metrics and a collection of metrics for steps and epochs."""

    def __init__(self, learning_rate: float = 0.05, batch_size: int = 16):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.accuracy = MulticlassAccuracy(3, average="micro")
        self.both = MetricCollection([MulticlassF1Score(3), MulticlassAccuracy(3)], prefix="train/")
        self.mean, self.largest = MeanMetric(), MaxMetric()
        self.val_accuracy = MulticlassAccuracy(3)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch):
        x, y = batch
        out = self(x + 0.1 * torch.randn_like(x))
        loss = nn.functional.cross_entropy(out, y)
        self.accuracy(out, y)
        self.both.update(out, y)
        self.mean.update(loss, len(y))
        self.largest(loss)
        self.log("train/loss", loss, on_step=True, on_epoch=True, sync_dist=True)
        self.log("train/samples", float(len(y)), on_step=False, on_epoch=True, reduce_fx="sum")
        self.log("train/worst", loss, on_step=True, on_epoch=True, reduce_fx="max")
        self.log("train/accuracy", self.accuracy, on_step=True, on_epoch=True)
        self.log_dict(self.both, on_step=False, on_epoch=True)
        self.log_dict({"train/mean": self.mean, "train/largest": self.largest}, on_step=False, on_epoch=True)
        if self.global_step % 2:
            self.log("train/odd", loss * 2)
        return {"loss": loss, "out": out.detach()}

    def validation_step(self, batch, batch_idx):
        x, y = batch
        out = self(x)
        self.val_accuracy.update(out, y)
        self.log("val/accuracy", self.val_accuracy)
        self.log("val/loss", nn.functional.cross_entropy(out, y), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.learning_rate, momentum=0.9)

    def _samples(self, count, seed):
        x = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(x, x[:, :3].argmax(1))

    def train_dataloader(self):
        return DataLoader(self._samples(150, 0), batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self._samples(40, 1), batch_size=self.hparams.batch_size)
