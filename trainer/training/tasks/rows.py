"""A buffer for figures: per-sample columns of the test, gathered from every rank in one order as torchmetrics gathers metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence


class Rows(Metric):
    """Named columns with one row per sample; with `most`, only the rows with the largest `by`, in descending order."""

    full_state_update = False

    def __init__(self, *names: str, by: str | None = None, most: int = 0) -> None:
        """Create columns with these names."""
        super().__init__()
        self.names, self.by, self.most = names, by, most
        self.gathered: dict[str, Tensor] = {}
        for name in names:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, **columns: Tensor) -> None:
        """Add the rows of a batch; each column is `[batch, ...]`."""
        for name in self.names:
            getattr(self, name).append(columns[name].detach())
        if self.by is not None:
            for name, column in self._cut().items():
                setattr(self, name, [column])

    def compute(self) -> int:
        """Gather the rows of all ranks and return their number; every rank must call this, or the others wait."""
        known = len(getattr(self, self.names[0])) > 0
        self.gathered = {name: column.cpu() for name, column in self._cut().items()} if known else {}
        return len(next(iter(self.gathered.values()), ()))

    def columns(self) -> dict[str, Tensor]:
        """Return each column on the CPU, or nothing if there are no rows; torchmetrics would squeeze values that `compute` returns."""
        self.compute()
        return self.gathered

    def _cut(self) -> dict[str, Tensor]:
        columns = {name: _whole(getattr(self, name)) for name in self.names}
        if self.by is None:
            return columns
        order = torch.argsort(columns[self.by], descending=True, stable=True)[: self.most]
        return {name: column[order] for name, column in columns.items()}


def _whole(parts: Tensor | Sequence[Tensor]) -> Tensor:
    return parts if isinstance(parts, Tensor) else torch.cat(list(parts))
