"""The mean loss of a split over all its samples, independent of the batches.

Sums are float64 on the loss's device, and are saved and gathered as torchmetrics metrics are. A loss that is NaN makes the mean NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """A weighted mean for use at every step; torchmetrics' own mean drops NaN and takes several times as long to check for it."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        """Create empty sums."""
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.last: Tensor | None = None
        """The latest loss, `[]`."""

    def update(self, loss: Tensor, count: Tensor | int) -> None:
        """Add the loss of a batch, `[]`, a mean over `count` elements; with a count of 0 the loss is NaN in torch, and is skipped."""
        self.last = loss.detach()
        if isinstance(count, Tensor):
            self.total = self.total + torch.where(count > 0, self.last.double() * count, 0.0)
        elif count:
            self.total = self.total + self.last.double() * count
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Return the mean over all ranks, `[]`, float64; every rank must call this, or the others wait."""
        return self.total / self.count
