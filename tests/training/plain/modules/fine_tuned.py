"""A backbone that is frozen at first and unfrozen by Lightning's own callback, which the module configures."""

import lightning as L
import torch
from lightning.pytorch.callbacks import BaseFinetuning, LearningRateMonitor, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Unfreeze(BaseFinetuning):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == self.epoch:
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer, lr=1e-3)


class FineTuned(L.LightningModule):
    def __init__(self, milestone: int = 2, lr: float = 0.05, layers: list[int] = [8, 8]):  # noqa: B006
        super().__init__()
        sizes = [4, *layers]
        self.backbone = nn.Sequential(
            *(each for a, b in zip(sizes, sizes[1:]) for each in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()))
        )
        self.head = nn.Linear(layers[-1], 3)
        self.milestone, self.lr = milestone, lr

    def forward(self, x):
        return self.head(self.backbone(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self(x), y))

    def configure_callbacks(self):
        return [Unfreeze(self.milestone), LearningRateMonitor(), ModelCheckpoint(monitor="val_loss", save_top_k=1)]

    def configure_optimizers(self):
        return torch.optim.SGD(filter(lambda p: p.requires_grad, self.parameters()), lr=self.lr, momentum=0.9)

    def _data(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 4, generator=generator)
        return TensorDataset(x, x[:, :3].argmax(1))

    def train_dataloader(self):
        return DataLoader(self._data(160, 0), batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self._data(48, 1), batch_size=16)
