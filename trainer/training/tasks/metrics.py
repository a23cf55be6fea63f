"""Metrics that torchmetrics lacks or computes differently, the mean loss of a split, and buffers for figures.

A metric that is undefined on its samples stores the reason in `undefined`.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC, BinaryEER, MulticlassAccuracy, MultilabelAveragePrecision

from trainer.base.suggestions import all_are

IGNORED: Final = -100
"""The label that torch's cross entropy leaves out of its mean."""


class Area(BinaryAUROC):
    """Area under the ROC curve of pairs, `[pairs]`; undefined unless there are pairs of the same class and of different classes."""

    undefined: str | None = None

    def compute(self) -> Tensor:  # type: ignore[override] # as BinaryAUROC does
        """Return the area."""
        self.undefined = _one_kind(self)
        return super().compute()


class EqualErrorRate(BinaryEER):
    """Equal error rate of pairs, `[pairs]`; undefined unless there are pairs of the same class and of different classes."""

    undefined: str | None = None

    def compute(self) -> Tensor:  # type: ignore[override] # as BinaryEER does
        """Return the rate."""
        self.undefined = _one_kind(self)
        return super().compute()


def _one_kind(metric: Any) -> str | None:
    """Return the reason why the curve of pairs does not exist, or None if it exists."""
    kept = metric.target
    targets = torch.cat([each.flatten() for each in kept]) if isinstance(kept, list | tuple) else kept.flatten()
    if not len(targets):
        return "there is no pair"
    if len(targets) == 1:
        return "there is one pair"
    if bool((targets == 1).all()):
        return f"{all_are(len(targets), 'pair')} of one class"
    return f"none of the {len(targets)} pairs is of one class" if bool((targets == 0).all()) else None


class Accuracy(MulticlassAccuracy):
    """Accuracy over samples; undefined without samples, for which torchmetrics returns 0."""

    undefined: str | None = None

    def compute(self) -> Tensor:
        """Return the fraction of correct predictions."""
        judged = sum(int(torch.as_tensor(getattr(self, name)).sum()) for name in ("tp", "fn"))
        self.undefined = None if judged else "there is nothing to judge"
        return super().compute()


class MeanAveragePrecision(MultilabelAveragePrecision):
    """Average precision of each label, `[batch, labels]`, averaged over the labels that occur; undefined if no sample has a label."""

    undefined: str | None = None

    def __init__(self, labels: int) -> None:
        super().__init__(num_labels=labels, average="none")

    def compute(self) -> Tensor:  # type: ignore[override] # as MultilabelAveragePrecision does
        """Return the mean."""
        kept: Any = self.target
        targets = torch.cat(list(kept)) if isinstance(kept, list | tuple) else kept
        occurs = (targets == 1).any(dim=0)
        self.undefined = None if bool(occurs.any()) else "no sample has a label"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns about labels without a sample, which are left out here
            each: Any = super().compute()
        mean: Tensor = each[occurs].mean()
        return mean


class MeanIoU(Metric):
    """Intersection over union of each class, averaged over the classes that occur in a target or a prediction.

    Counts are exact, in any order and on any device. Torchmetrics needs memory for every combination of a pair of classes and a pixel if
    deterministic algorithms are required.
    """

    full_state_update = False
    undefined: str | None = None
    both: Tensor
    either: Tensor

    def __init__(self, classes: int, *, ignore_index: int | None = None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        for name in ("both", "either"):
            self.add_state(name, default=torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, wanted: Tensor) -> None:
        """Add predicted and true classes, integers of one shape."""
        known = torch.ones_like(wanted, dtype=torch.bool) if self.ignore_index is None else wanted != self.ignore_index
        for number in range(len(self.both)):
            is_predicted, is_true = (predicted == number) & known, (wanted == number) & known
            self.both[number] += (is_predicted & is_true).sum()
            self.either[number] += (is_predicted | is_true).sum()

    def compute(self) -> Tensor:
        """Return the mean."""
        occurs = self.either > 0
        self.undefined = None if bool(occurs.any()) else "there is no pixel to judge"
        return (self.both[occurs].double() / self.either[occurs]).mean()


class R2(Metric):
    """R2, the fraction of the targets' variance that is explained; undefined for fewer than two targets or for equal targets.

    Computed in float64, and without torchmetrics' rule that sums of squares below 1e-4 are 0: for small targets it sets R2 to 1 or 0.
    The states of several shards cannot be merged: a training step with shards must not update it.
    """

    full_state_update = True
    undefined: str | None = None
    count: Tensor
    mean: Tensor
    spread: Tensor
    """The sum of squared differences of the targets from their mean."""
    wrong: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "wrong"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("mean", "spread"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx=None)
        self.add_state("lowest", default=torch.tensor(torch.inf, dtype=torch.float64), dist_reduce_fx="min")
        self.add_state("highest", default=torch.tensor(-torch.inf, dtype=torch.float64), dist_reduce_fx="max")

    def update(self, predicted: Tensor, wanted: Tensor) -> None:
        """Add predictions and targets of one shape."""
        if not wanted.numel():
            return
        predicted, wanted = predicted.detach().double(), wanted.double()
        many, mean = wanted.numel(), wanted.mean()
        both, apart = self.count + many, mean - self.mean
        # The moments of batches are merged (Chan et al., 1983): a sum of squares would lose the spread of large targets.
        self.spread = self.spread + (wanted - mean).square().sum() + apart.square() * (self.count * many / both)
        self.mean = self.mean + apart * (many / both)
        self.count = both
        self.wrong = self.wrong + (predicted - wanted).square().sum()
        self.lowest = torch.minimum(self.lowest, wanted.min())
        self.highest = torch.maximum(self.highest, wanted.max())

    def compute(self) -> Tensor:
        """Return 1 - (sum of squared errors) / (sum of squared differences from the mean)."""
        self.undefined = self._reason()
        return torch.full_like(self.spread, torch.nan) if self.undefined else 1 - self.wrong / self.spread

    def _reason(self) -> str | None:
        if int(self.count) < 2:  # noqa: PLR2004 - one number has no variance
            return f"the split has {int(self.count)} target{'' if int(self.count) == 1 else 's'}; R2 needs 2"
        if bool(self.lowest == self.highest):
            return f"{all_are(int(self.count), 'target')} {float(self.lowest):g}"
        return None


class MeanLoss(Metric):
    """The mean loss over all samples, independent of the batches; NaN if a loss is NaN.

    Torchmetrics' own mean drops NaN, and takes several times as long to check for it.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.last: Tensor | None = None
        """The latest loss, `[]`."""

    def update(self, loss: Tensor, count: Tensor | int) -> None:
        """Add the loss of a batch, `[]`, a mean over `count` elements; it is skipped if `count` is 0, for which torch returns NaN."""
        self.last = loss.detach()
        if isinstance(count, Tensor):
            self.total = self.total + torch.where(count > 0, self.last.double() * count, 0.0)
        elif count:
            self.total = self.total + self.last.double() * count
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Return the mean over the added batches, `[]`, float64."""
        return self.total / self.count


def loss_weight(loss: object, wanted: Tensor) -> Tensor | int:
    """Return the weight of a batch in the mean loss of a split: the sum of weights over which `loss` is a mean.

    For a cross entropy of class numbers `[batch, ...]`, it is the number of targets that are not ignored, each with the weight of its
    class; for other losses the number of samples.
    """
    is_of_classes = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or loss in (F.cross_entropy, F.nll_loss)
    if not is_of_classes or wanted.is_floating_point() or getattr(loss, "reduction", "mean") != "mean":
        return len(wanted)
    known = wanted != getattr(loss, "ignore_index", IGNORED)
    weight: Tensor | None = getattr(loss, "weight", None)
    if weight is None:
        return known.sum()
    return (weight[torch.where(known, wanted, 0).long()].double() * known).sum()


class OutputRows(Metric):
    """A buffer for figures: named columns with one row per sample.

    With `most`, it keeps only the rows with the largest `by`, in descending order.
    """

    full_state_update = False

    def __init__(self, *names: str, by: str | None = None, most: int = 0) -> None:
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
            for name, column in self._largest().items():
                setattr(self, name, [column])

    def compute(self) -> int:
        """Concatenate the rows on the CPU, and return their number."""
        known = len(getattr(self, self.names[0])) > 0
        self.gathered = {name: column.cpu() for name, column in self._largest().items()} if known else {}
        return len(next(iter(self.gathered.values()), ()))

    def columns(self) -> dict[str, Tensor]:
        """Return each column on the CPU; empty without rows. Torchmetrics would squeeze the columns if `compute` returned them."""
        self.compute()
        return self.gathered

    def _largest(self) -> dict[str, Tensor]:
        parts = {name: getattr(self, name) for name in self.names}
        columns = {name: each if isinstance(each, Tensor) else torch.cat(list(each)) for name, each in parts.items()}
        if self.by is None:
            return columns
        order = torch.argsort(columns[self.by], descending=True, stable=True)[: self.most]
        return {name: column[order] for name, column in columns.items()}
