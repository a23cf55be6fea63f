"""The multi-label task: predict any number of several labels for each sample, with binary cross entropy as the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MultilabelAccuracy, MultilabelF1Score

from trainer.base.errors import DatasetError
from trainer.settings.ledger import configured
from trainer.training.figures.charts import roc
from trainer.training.settings import MultiLabelSettings
from trainer.training.tasks.metrics import MeanAveragePrecision, OutputRows
from trainer.training.tasks.outputs import described, odd_sigmoid, require_float
from trainer.training.tasks.predictions import PredictionForm
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from trainer.data.inspection import Inspection
    from trainer.runs.figure import Figure

__all__ = ["MultiLabelClassifier", "MultiLabelSettings"]

_CURVES: Final = 12
"""The largest number of labels for which the report has ROC curves."""
_MULTI_HOT: Final = "publish 1 for each label that a sample has and 0 for the others, `[samples, labels]`"


class MultiLabelClassifier(Task):
    """A net whose `forward` returns a score for each label, float `[batch, labels]`; targets are 0 or 1, `[batch, labels]`.

    A score above 0 is a predicted label. Metrics: accuracy over all labels, F1 and average precision, averaged over labels. Figure: the ROC
    curve of each label.
    """

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the binary cross entropy."""
        return multi_label_loss

    def make_metrics(self) -> MetricCollection:
        """Return accuracy, F1 and mean average precision."""
        return measures()

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the targets are not one number for each label."""
        del given
        if wanted.ndim != 2 or wanted.dtype.is_complex:  # noqa: PLR2004 - batch and labels
            message = f"targets are {described(wanted)}; a multi-label classification expects 0 or 1, [batch, labels]"
            hint = "derive the net from Classifier if each sample has one class" if wanted.ndim == 1 else _MULTI_HOT
            raise DatasetError(message, hint=hint)

    def check_values(self, seen: Inspection) -> list[str]:
        """Raise `DatasetError` if a target of any split is outside of 0 to 1."""
        for split, values in seen.field(self._used[-1]).items():
            for bound in filter(None, (values.low, values.high)):
                if not 0 <= bound.value <= 1:
                    message = f"targets of split {split} include {bound.value:g} (the first is in {bound.name}); expected 0 or 1"
                    raise DatasetError(message, hint=_MULTI_HOT)
        return []

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output is not one score for each label, `DatasetError` if targets have another number."""
        labels = label_count()
        if wanted.shape[1:] != (labels,):
            message = f"targets are {described(wanted)}; setting labels is {labels}"
            raise DatasetError(message, hint=f"--labels {wanted.shape[1]}" if wanted.ndim > 1 else _MULTI_HOT)
        require_float(self, predicted, (len(wanted), labels), is_="a score for each label")

    def describe_oddity(self, predicted: Tensor, wanted: Tensor) -> tuple[str, str] | None:
        """Report outputs of a sigmoid or softmax: the loss applies the sigmoid itself."""
        del wanted
        return odd_sigmoid(self, predicted) if self.loss is multi_label_loss else None

    def metric_inputs(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities, float64, and the targets, int64, `[batch, labels]` each.

        In float32, all scores above 17 have the probability 1, and average precision would not rank them.
        """
        return predicted.double().sigmoid(), wanted.round().long() if wanted.is_floating_point() else wanted.long()

    def prediction_form(self) -> PredictionForm:
        """Return the form of predictions: the labels with a probability above one half, as in the metrics, and all probabilities."""
        named = self.class_names
        names = [named[at] if at < len(named) else str(at) for at in range(label_count())]
        return PredictionForm(kind="labels", names=tuple(names))

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return a buffer for scores and targets, if there are few labels."""
        return {"curves": OutputRows("scores", "labels")} if label_count() <= _CURVES else {}

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a batch that the figure needs."""
        del given
        for rows in self.kept.values():
            rows.update(scores=predicted.float(), labels=wanted >= 0.5)  # type: ignore[operator] # noqa: PLR2004 - rounded

    def figures(self) -> list[Figure]:
        """Return the ROC curve of each label."""
        found: dict[str, Tensor] = self.kept["curves"].columns() if "curves" in self.kept else {}  # type: ignore[operator]
        if not found:
            return []
        names = [
            self.class_names[at] if at < len(self.class_names) else str(at) for at in range(found["scores"].shape[1])
        ]
        curves = {name: (found["scores"][:, at], found["labels"][:, at]) for at, name in enumerate(names)}
        drawn = roc(curves, title="ROC of each label")
        return [] if drawn is None else [drawn]


def multi_label_loss(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the binary cross entropy of scores and targets `[batch, labels]`: the mean over batch and labels."""
    return F.binary_cross_entropy_with_logits(scores, wanted.to(scores.dtype))


@configured
def label_count(*, labels: int) -> int:
    """Return the number of labels."""
    return labels


@configured
def measures(*, labels: int) -> MetricCollection:
    """Return accuracy, F1 and mean average precision over `labels`."""
    return MetricCollection(
        {
            "accuracy": MultilabelAccuracy(num_labels=labels, average="micro"),
            "f1": MultilabelF1Score(num_labels=labels, average="macro"),
            "map": MeanAveragePrecision(labels),
        }
    )
