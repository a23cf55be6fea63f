"""A toy diffusion model: noise from the global generator in each step, a manual moving average, and a data stream without a length."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Moons(IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        generator = torch.Generator().manual_seed(7)
        for _ in range(self.count):
            angle = torch.rand(1, generator=generator) * 3.14
            yield torch.cat([angle.cos(), angle.sin()])


class Diffusion(L.LightningModule):
    def __init__(self, steps: int = 50, width: int = 32, decay: float = 0.99, learning_rate: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, 2))
        self.average = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, 2)).requires_grad_(False)
        self.average.load_state_dict(self.net.state_dict())
        self.register_buffer("alphas", torch.linspace(0.999, 0.9, steps).cumprod(0))

    def training_step(self, batch, batch_idx):
        t = torch.randint(0, self.hparams.steps, (len(batch),), device=batch.device)
        noise = torch.randn_like(batch)
        alpha = self.alphas[t, None]
        noisy = alpha.sqrt() * batch + (1 - alpha).sqrt() * noise
        loss = nn.functional.mse_loss(self.net(torch.cat([noisy, t[:, None] / self.hparams.steps], 1)), noise)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        for mean, value in zip(self.average.parameters(), self.net.parameters()):
            mean.lerp_(value.detach(), 1 - self.hparams.decay)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["made_with"] = {"decay": self.hparams.decay}

    def on_load_checkpoint(self, checkpoint):
        assert checkpoint["made_with"]["decay"] == self.hparams.decay

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), lr=self.hparams.learning_rate)

    def train_dataloader(self):
        return DataLoader(Moons(320), batch_size=16)
