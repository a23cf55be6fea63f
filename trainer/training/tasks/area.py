"""The area under the ROC curve of a classification into two classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from trainer.base.suggestions import all_are


class ClassArea(Metric):
    """Exact area under the ROC curve of class 1: the probability that a sample of class 1 scores higher than a sample of class 0.

    Ties count half.

    Computed from ranks (Hanley and McNeil, Radiology 143, 1982) of the difference of the two scores in float64: a softmax would round
    clear scores to equal probabilities. Undefined for samples of one class.
    """

    full_state_update = False
    undefined: str | None = None
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, wanted: Tensor) -> None:
        """Add scores `[batch, 2, ...]` and labels `[batch, ...]`."""
        scores = predicted.detach().double()
        self.scores.append((scores[:, 1] - scores[:, 0]).flatten())
        self.labels.append(wanted.flatten().long())

    def compute(self) -> Tensor:
        """Return the area."""
        scores, labels = dim_zero_cat(self.scores).cpu(), dim_zero_cat(self.labels).cpu()
        positive, negative = int((labels == 1).sum()), int((labels == 0).sum())
        self.undefined = None if positive and negative else f"{all_are(len(labels), 'sample')} of one class"
        if self.undefined or bool(scores.isnan().any()):
            return torch.tensor(torch.nan, dtype=torch.float64)
        _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
        ranks = counts.cumsum(0).double() - (counts - 1).double() / 2  # the middle rank of equal scores
        above = ranks[place][labels == 1].sum() - positive * (positive + 1) / 2
        area: Tensor = above / (positive * negative)
        return area
