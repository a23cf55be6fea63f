"""The verification task: decide whether two samples are of the same class by the distance of their embeddings (metric learning).

The classes of the test split may differ from the classes of the training split. The task never takes a square root, because torch's square
root differs between CPUs in its last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy

from trainer.base.errors import DatasetError
from trainer.runs.figure import Pictures
from trainer.settings.ledger import configured
from trainer.training.figures.charts import histogram, roc
from trainer.training.figures.picture import Row, drawn, is_picture
from trainer.training.settings import VerificationSettings
from trainer.training.tasks.outputs import described, require_float
from trainer.training.tasks.pairs import Pairs
from trainer.training.tasks.rows import Rows
from trainer.training.tasks.split_metrics import Area, EqualErrorRate
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.inspection import Inspection, SplitValues
    from trainer.runs.figure import Figure
    from trainer.training.readers import Samples

__all__ = ["VerificationSettings", "Verifier"]

_WORST: Final = 16
_KIND: Final = "give --target-field the field of the class number"


class Verifier(Task):
    """A net whose `forward` returns an embedding of each sample, float `[batch, any]`; labels are integers, `[batch]`.

    A batch holds pairs of neighbors: samples 0 and 1, samples 2 and 3; `batch_size` counts pairs. Metrics: area under the ROC curve, equal
    error rate, accuracy at the loss's own threshold. Figures: ROC curve, distances of pairs, the pairs with the largest error.
    """

    def samples(self, declared: Dataset, files: Files) -> Samples:
        """Open the samples with the reader that the dataset declares, in pairs."""
        return Pairs(super().samples(declared, files), declared)

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the contrastive loss."""
        return contrastive()

    def make_metrics(self) -> MetricCollection:
        """Return the area under the ROC curve, the equal error rate and the accuracy."""
        return measures()

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the labels are not integers, `[batch]`."""
        del given
        if wanted.is_floating_point() or wanted.ndim != 1:
            raise DatasetError(f"labels are {described(wanted)}; a verification expects int64 [batch]", hint=_KIND)

    def check_values(self, seen: Inspection) -> list[str]:
        """Note a training split whose pairs are all of the same class, or all of different classes."""
        why = _one_kind_of_pairs(seen.splits.get("train"), self._used[1])
        return [f"split train: {why}: nothing can be learned from it"] if why else []

    def undefined_on(self, seen: SplitValues) -> dict[str, str]:
        """Return AUC and EER, with the reason, if the split lacks pairs of the same class or pairs of different classes."""
        why = _one_kind_of_pairs(seen, self._used[1])
        return dict.fromkeys(("auc", "eer"), why) if why else {}

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output is not one embedding per sample."""
        require_float(self, predicted, (len(wanted), None), is_="an embedding of each sample")

    def metric_inputs(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the similarity of each pair, from 0 to 1, and whether its samples are of the same class: `[pairs]` each."""
        return nearness(predicted), same(wanted)

    def counted(self, wanted: Tensor) -> int:
        """Return the number of pairs."""
        return len(wanted) // 2

    def make_output_buffers(self) -> dict[str, Rows]:
        """Return buffers for the similarity of each pair and for the pairs with the largest error."""
        return {"pairs": Rows("near", "same"), "worst": Rows("loss", "given", "same", by="loss", most=_WORST)}

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a batch that the figures need."""
        near, equal = nearness(predicted.float()), same(wanted)
        self.kept["pairs"].update(near=near, same=equal)  # type: ignore[operator]
        if is_picture(given[0]):
            loss = torch.where(equal == 1, 1 - near, near)
            self.kept["worst"].update(loss=loss, given=torch.cat([given[0::2], given[1::2]], dim=-1), same=equal)  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the ROC curve, the distances of the pairs and the pairs with the largest error."""
        found: dict[str, Tensor] = self.kept["pairs"].columns()  # type: ignore[operator]
        if not found:
            return []
        near, equal = found["near"].double(), found["same"]
        apart = {name: (1 / near - 1)[equal == value] for name, value in (("same", 1), ("not the same", 0))}
        shown = [
            roc({"same": (near, equal)}, title="ROC of the pairs"),
            histogram("distances", "How far pairs are apart", "squared distance", apart),
            self._worst(),
        ]
        return [figure for figure in shown if figure is not None]

    def _worst(self) -> Figure | None:
        worst: dict[str, Tensor] = self.kept["worst"].columns()  # type: ignore[operator]
        if not worst:
            return None
        captions = ["same, yet far" if equal else "not same, yet near" for equal in worst["same"].tolist()]
        title = "Most wrong pairs: same and farthest apart, or different and nearest"
        self.pictures["most-wrong.png"] = drawn(
            Row.several(title, [{"image": each} for each in worst["given"]], captions)
        )
        return Pictures(name="most-wrong", title=title, file="most-wrong.png", captions=tuple(captions))


def _one_kind_of_pairs(seen: SplitValues | None, field: str) -> str:
    """Return why all pairs of a split are of the same class or all of different classes; an empty string if there are both."""
    values = seen.fields.get(field) if seen else None
    kinds = values.values or () if values else ()
    if seen and kinds and seen.samples == 1:
        return "there is one sample, and so one pair"
    if len(kinds) == 1:
        return f"all {kinds[0].count:,} samples are of class {kinds[0].value}, so no pair differs"
    if seen and kinds and len(kinds) == seen.samples:
        return f"each of the {seen.samples:,} samples has a class of its own, so no pair is the same"
    return ""


def squared_distance(embeddings: Tensor) -> Tensor:
    """Return the squared distance of the embeddings of each pair: `[2 * pairs, any]` to `[pairs]`."""
    return (embeddings[0::2] - embeddings[1::2]).square().sum(dim=1)


def nearness(embeddings: Tensor) -> Tensor:
    """Return the similarity of each pair, `[pairs]`: 1 for equal embeddings, towards 0 with growing distance."""
    return 1 / (1 + squared_distance(embeddings))


def same(labels: Tensor) -> Tensor:
    """Return 1 for each pair whose samples are of the same class, else 0: `[pairs]`, int64."""
    return (labels[0::2] == labels[1::2]).long()


class Contrastive(nn.Module):
    """Contrastive loss: pulls pairs of one class together, pushes others to a squared distance of `margin` (Hadsell et al., 2006)."""

    def __init__(self, margin: float) -> None:
        """Create the loss with the squared distance `margin`."""
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the pairs."""
        apart = squared_distance(embeddings)
        return torch.where(same(labels) == 1, apart, F.relu(self.margin - apart)).mean()


@configured
def contrastive(*, margin: float) -> Contrastive:
    """Return the contrastive loss of embeddings `[2 * pairs, any]` and labels `[2 * pairs]`: the mean over the pairs."""
    return Contrastive(margin)


@configured
def measures(*, margin: float) -> MetricCollection:
    """Return AUC and EER over all thresholds, and the accuracy if pairs within half the margin count as the same class."""
    middle = 1 / (1 + margin / 2)
    return MetricCollection({"auc": Area(), "eer": EqualErrorRate(), "accuracy": BinaryAccuracy(threshold=middle)})
