"""The two nets on which costs of a step are measured: a transformer of 10 M parameters, and one of the size of the digits experiment."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor, nn


class Net(L.LightningModule):
    """A body that gives numbers; the loss is their square."""

    def __init__(self, body: nn.Module) -> None:
        """Train `body`."""
        super().__init__()
        self.body = body

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Give a loss."""
        del index
        found: Tensor = self.body(batch[0]).square().mean()
        return found

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Step as most do."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)


def transformer() -> tuple[nn.Module, Tensor]:
    """10 M parameters, and a batch of 8 sequences of 128."""
    layer = nn.TransformerEncoderLayer(320, 8, 1280, batch_first=True)
    return nn.TransformerEncoder(layer, 8, enable_nested_tensor=False), torch.randn(8, 128, 320)


def small() -> tuple[nn.Module, Tensor]:
    """The size of the digits experiment: two layers, and a batch of 32 images of 8x8."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), torch.randn(32, 64)


NETS = {"transformer": transformer, "small net": small}


def described(name: str, net: nn.Module) -> str:
    """A net's name with its size."""
    sizes = [value.numel() for value in net.parameters()]
    return f"{name}, {sum(sizes) / 1e6:.2f} M parameters, {len(sizes)} tensors"
