"""The mean of a split's losses, over all its samples however they came in batches.

Knows how sums are kept: in float64, on the loss's device, saved and gathered as torchmetrics does. Refuses to leave a value out: a loss
that is no number makes the mean none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """A weighted mean. torchmetrics' own drops what is NaN, and takes several times as long for looking: this is added to at every step."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.last: Tensor | None = None
        """The last loss that came, `[]`."""

    def update(self, loss: Tensor, count: Tensor | int) -> None:
        """Add the loss of a batch, `[]`, that is a mean over `count` things; of none it is NaN in torch, and adds nothing."""
        self.last = loss.detach()
        if isinstance(count, Tensor):
            self.total = self.total + torch.where(count > 0, self.last.double() * count, 0.0)
        elif count:
            self.total = self.total + self.last.double() * count
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Give the mean over all ranks, `[]` in float64; every rank calls this, or the others wait."""
        return self.total / self.count
