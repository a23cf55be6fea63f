"""An autoencoder with a data module in the same file, as a team would write it."""

from typing import Optional, Tuple

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split


class Waves(Dataset):
    """Sine waves; training adds noise from the global generator, as many augmentations do."""

    def __init__(self, count: int, noise: float):
        self.count, self.noise = count, noise

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        wave = torch.sin(torch.linspace(0, 6.28, 16) * (1 + index % 5) + index)
        return wave + self.noise * torch.randn(16), index % 5


class WaveData(L.LightningDataModule):
    def __init__(self, batch_size: int = 32, num_workers: int = 0, split: Tuple[int, int, int] = (320, 64, 64)):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.data_train: Optional[Dataset] = None

    def setup(self, stage: Optional[str] = None):
        if self.data_train is None:
            self.data_train, self.data_val, self.data_test = random_split(
                Waves(448, noise=0.1), self.hparams.split, generator=torch.Generator().manual_seed(42)
            )

    def _loader(self, data, shuffle=False):
        return DataLoader(
            data, batch_size=self.hparams.batch_size, num_workers=self.hparams.num_workers, shuffle=shuffle
        )

    def train_dataloader(self):
        return self._loader(self.data_train, shuffle=True)

    def val_dataloader(self):
        return self._loader(self.data_val)

    def test_dataloader(self):
        return self._loader(self.data_test)


class LitAutoEncoder(L.LightningModule):
    """A module that compresses waves to a few numbers."""

    def __init__(self, hidden_dim: int = 4, learning_rate: float = 1e-3, activation=nn.ReLU):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(16, 32), activation(), nn.Dropout(0.1), nn.Linear(32, hidden_dim))
        self.decoder = nn.Sequential(nn.Linear(hidden_dim, 32), activation(), nn.Linear(32, 16))

    def forward(self, x):
        return self.encoder(x)

    def _loss(self, batch):
        x, _ = batch
        return nn.functional.mse_loss(self.decoder(self.encoder(x)), x)

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), prog_bar=True)

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self._loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}
