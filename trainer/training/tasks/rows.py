"""Rows of a test that are kept for figures: numbers of each sample, from every rank, in one order.

Knows how they are gathered: as torchmetrics gathers, so that several devices give one whole. Refuses to know what is drawn of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence


class Rows(Metric):
    """Named columns, a row a sample; with `most` only the rows with the largest `by`, the largest first."""

    full_state_update = False

    def __init__(self, *names: str, by: str | None = None, most: int = 0) -> None:
        """Keep the columns of these names."""
        super().__init__()
        self.names, self.by, self.most = names, by, most
        self.gathered: dict[str, Tensor] = {}
        for name in names:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, **columns: Tensor) -> None:
        """Add the rows of a batch: each column `[batch, ...]`."""
        for name in self.names:
            getattr(self, name).append(columns[name].detach())
        if self.by is not None:
            for name, column in self._cut().items():
                setattr(self, name, [column])

    def compute(self) -> int:
        """Gather the rows of all ranks, and count them; every rank calls this, or the others wait."""
        known = len(getattr(self, self.names[0])) > 0
        self.gathered = {name: column.cpu() for name, column in self._cut().items()} if known else {}
        return len(next(iter(self.gathered.values()), ()))

    def columns(self) -> dict[str, Tensor]:
        """Give each column whole, on the CPU; nothing where there were no rows. What `compute` gives, torchmetrics would squeeze."""
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
