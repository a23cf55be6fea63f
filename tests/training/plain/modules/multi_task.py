"""Two heads, metrics of both, a hand-written learning rate schedule, and loaders in the module itself, read by worker processes."""

import lightning as L
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class Shapes(Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(count)
        self.points = torch.randn(count, 6, generator=generator)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        point = self.points[index]
        return {
            "x": point + 0.05 * torch.rand(6),
            "side": (point[0] > 0).long(),
            "length": point.norm(),
        }


class MultiTask(L.LightningModule):
    def __init__(self, width: int = 16, lr: float = 0.01, weight: float = 0.5, num_workers: int = 2):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(nn.Linear(6, width), nn.GELU(), nn.BatchNorm1d(width))
        self.side, self.length = nn.Linear(width, 2), nn.Linear(width, 1)
        self.accuracy = torchmetrics.MetricCollection(
            {"accuracy": torchmetrics.classification.MulticlassAccuracy(2)}, prefix="val_"
        )

    def losses(self, batch):
        features = self.body(batch["x"])
        side = nn.functional.cross_entropy(self.side(features), batch["side"])
        length = nn.functional.mse_loss(self.length(features).squeeze(1), batch["length"])
        return side, length, self.side(features)

    def training_step(self, batch, batch_idx):
        side, length, _ = self.losses(batch)
        loss = side + self.hparams.weight * length
        self.log_dict({"train_side": side, "train_length": length})
        return {"loss": loss, "detached": length.detach()}

    def validation_step(self, batch, batch_idx):
        side, length, logits = self.losses(batch)
        self.accuracy.update(logits, batch["side"])
        self.log("val_loss", side + self.hparams.weight * length)

    def on_validation_epoch_end(self):
        self.logger.experiment.add_scalar("points", len(self.val_dataloader()[0].dataset), self.current_epoch)
        self.log_dict(self.accuracy.compute())
        self.accuracy.reset()

    def configure_optimizers(self):
        heads = [*self.side.parameters(), *self.length.parameters()]
        groups = [{"params": self.body.parameters(), "lr": self.hparams.lr}, {"params": heads}]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr / 2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def train_dataloader(self):
        sampler = WeightedRandomSampler(torch.linspace(1, 2, 200), num_samples=200)
        return DataLoader(Shapes(200), batch_size=20, sampler=sampler, num_workers=self.hparams.num_workers)

    def val_dataloader(self):
        return [DataLoader(Shapes(60), batch_size=30)]
