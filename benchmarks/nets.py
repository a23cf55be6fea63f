"""The two nets for measuring the cost per step: a transformer of 10 M parameters, and a net of the size of the digits experiment."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor, nn


class Net(L.LightningModule):
    """A net whose loss is the square of the output of `body`."""

    def __init__(self, body: nn.Module) -> None:
        """Train `body`."""
        super().__init__()
        self.body = body

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss."""
        del index
        found: Tensor = self.body(batch[0]).square().mean()
        return found

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)


def transformer() -> tuple[nn.Module, Tensor]:
    """Return a net of 10 M parameters, and a batch of 8 sequences of 128."""
    layer = nn.TransformerEncoderLayer(320, 8, 1280, batch_first=True)
    return nn.TransformerEncoder(layer, 8, enable_nested_tensor=False), torch.randn(8, 128, 320)


def small() -> tuple[nn.Module, Tensor]:
    """Return a net of two layers, the size of the digits experiment, and a batch of 32 images of 8x8."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), torch.randn(32, 64)


NETS = {"transformer": transformer, "small net": small}


def described(name: str, net: nn.Module) -> str:
    """Return the name of a net with its size."""
    sizes = [value.numel() for value in net.parameters()]
    return f"{name}, {sum(sizes) / 1e6:.2f} M parameters, {len(sizes)} tensors"
