"""The restored state of metrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torchmetrics import Metric

from trainer.training.resuming.lightning_state import averages_of, restore_averages

pytestmark = pytest.mark.torch


class Lowest(Metric):
    """A metric with a state, and with a tensor of its own that stays on the CPU."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.lowest = torch.tensor(9.0)

    def update(self, value: torch.Tensor) -> None:
        """Add a value."""
        self.total = self.total + value
        self.lowest = torch.minimum(self.lowest, value.cpu())

    def compute(self) -> torch.Tensor:
        """Return the sum."""
        return self.total


def machine_of(net: nn.Module, device: str) -> Any:
    epoch_loop = SimpleNamespace(_results={})
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(lightning_module=net, fit_loop=SimpleNamespace(epoch_loop=epoch_loop), strategy=strategy)


def test_a_metrics_own_tensor_stays_on_its_device() -> None:
    metric, restored = Lowest(), Lowest()
    metric.update(torch.tensor(2.0))
    saved = averages_of(machine_of(nn.ModuleDict({"metric": metric}), "cpu"))
    restored.to("meta")
    restore_averages(machine_of(nn.ModuleDict({"metric": restored}), "meta"), saved)
    assert (restored.total.device.type, restored.lowest.device.type) == ("meta", "cpu")
    assert restored.lowest == 2
