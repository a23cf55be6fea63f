"""The classification task: predict one of several classes for each sample, with cross entropy as the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from trainer.base.errors import DatasetError
from trainer.runs.figure import Pictures
from trainer.settings.ledger import configured
from trainer.training.figures.charts import confusion, roc
from trainer.training.figures.picture import Row, class_text, drawn, is_picture, numbered_note
from trainer.training.settings import ClassificationSettings
from trainer.training.tasks.labels import beyond, negative, not_trained_on, require_classes
from trainer.training.tasks.outputs import described, odd_probabilities, require_float
from trainer.training.tasks.split_metrics import OutputRows
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.inspection import Inspection
    from trainer.runs.figure import Figure

__all__ = ["ClassificationSettings", "Classifier"]

_TABLED: Final = 100
"""The largest number of classes for which the report has a confusion matrix."""
_CURVES: Final = 12
"""The largest number of classes for which the report has ROC curves."""
_WORST: Final = 16


class Classifier(Task):
    """A net whose `forward` returns scores, float `[batch, classes]`; labels are integers below `classes`, `[batch]`.

    Metrics: accuracy over samples, F1 averaged over classes. Figures: confusion matrix, ROC curve of each class, samples with largest loss.
    """

    def setup(self, stage: str) -> None:
        """Read the names of the classes and create loss, metrics and buffers."""
        self._named = class_names(tuple(self.class_names))
        super().setup(stage)

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the cross entropy."""
        return cross_entropy()

    def make_metrics(self) -> MetricCollection:
        """Return accuracy and F1."""
        return measures()

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the labels are not integers (int64 or uint8)."""
        del given
        if wanted.dtype not in _NUMBERS:
            said = f"labels are {described(wanted)}; a classification expects int64 [batch]"
            is_whole = not wanted.is_floating_point() or (wanted.ndim == 1 and bool((wanted == wanted.round()).all()))
            raise DatasetError(said, hint=_INTEGERS if is_whole else _KIND)

    def check_values(self, seen: Inspection) -> list[str]:
        """Raise `DatasetError` or `SettingError` if a label of any split is not a class; note classes without a training sample."""
        labels = seen.field(self._used[1])
        require_classes(labels, classes=len(self._named))
        return [*not_trained_on(labels, self._named)]

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output is not one score per class, `DatasetError` if labels have too many axes."""
        axes = getattr(predicted, "ndim", 0)
        if wanted.ndim >= axes >= 2:  # noqa: PLR2004 - batch and classes
            expected = "int64 [batch], a class for each sample" if axes == 2 else f"int64 with {axes - 1} axes"  # noqa: PLR2004
            raise DatasetError(f"labels are {described(wanted)}; expected {expected}", hint=_axes(wanted))
        require_float(self, predicted, (len(wanted), len(self._named), *wanted.shape[1:]), is_="a score for each class")

    def describe_oddity(self, predicted: Tensor, wanted: Tensor) -> tuple[str, str] | None:
        """Report outputs that are probabilities: cross entropy applies the softmax itself."""
        del wanted
        return odd_probabilities(self, predicted, dim=1) if isinstance(self.loss, nn.CrossEntropyLoss) else None

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return buffers for the predictions, for all scores if there are few classes, and for the samples with the largest loss."""
        kept = {"worst": OutputRows("loss", "given", "said", "sure", "label", by="loss", most=_WORST)}
        if len(self._named) <= _TABLED:
            kept["table"] = OutputRows("said", "label")
        if len(self._named) <= _CURVES:
            kept["curves"] = OutputRows("scores", "label")
        return kept

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a batch that the figures need."""
        if wanted.ndim > 1:
            return
        scores, labels = predicted.float().log_softmax(dim=1), wanted.long()
        sure, said = scores.exp().max(dim=1)
        columns = {"said": said, "label": labels, "sure": sure, "scores": scores.exp(), "given": given}
        columns["loss"] = F.nll_loss(scores, labels, reduction="none")
        for name, rows in self.kept.items():
            if name != "worst" or is_picture(given[0]):
                rows.update(**columns)  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the confusion matrix, the ROC curves and the samples with the largest loss."""
        found: dict[str, dict[str, Tensor]] = {name: rows.columns() for name, rows in self.kept.items()}  # type: ignore[operator]
        drawings = {
            "table": lambda columns: confusion(columns["said"], columns["label"], self._named),
            "curves": self._curves,
            "worst": self._worst,
        }
        shown = [draw(found[name]) for name, draw in drawings.items() if found.get(name)]
        return [figure for figure in shown if figure is not None]

    def _curves(self, columns: dict[str, Tensor]) -> Figure | None:
        scores, labels = columns["scores"], columns["label"]
        if len(self._named) == 2:  # noqa: PLR2004 - one curve is enough for two classes
            return roc({self._named[1]: (scores[:, 1], labels == 1)}, title=f"ROC of {self._named[1]}")
        curves = {name: (scores[:, at], labels == at) for at, name in enumerate(self._named)}
        return roc(curves, title="ROC of each class against the others")

    def _worst(self, columns: dict[str, Tensor]) -> Figure:
        parts = list(zip(*(columns[name].tolist() for name in ("label", "said", "sure")), strict=True))
        names, shown = self._named, [class_text(label, self._named) for label in range(len(self._named))]
        captions = [f"{100 * sure:.0f}% {names[said]}, is {names[label]}" for label, said, sure in parts]
        drawable = [f"{100 * sure:.0f}% {shown[said]}, is {shown[label]}" for label, said, sure in parts]
        title = "Samples with the largest test losses"
        rows = Row.several(title, [{"image": each} for each in columns["given"]], drawable)
        self.pictures["most-wrong.png"] = drawn(rows, note=numbered_note(names))
        return Pictures(name="most-wrong", title=title, file="most-wrong.png", captions=tuple(captions))


def _axes(labels: Tensor) -> str:
    if labels[0].numel() == 1:
        return "publish one number per sample: numpy.save(FILE, labels.reshape(-1))"
    if labels.shape[1] == 1:
        return "publish them without their second axis: numpy.save(FILE, labels[:, 0])"
    return "if each row is 1 at its class (one-hot), publish labels.argmax(axis=1)"


_NUMBERS: Final = (torch.int64, torch.uint8)
_KIND: Final = "give --target-field the field of the class number, or choose another kind of task"
_INTEGERS: Final = "publish them as labels.astype('int64'), of a table as --column label=COLUMN:int64"


class _CrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy that raises an error for a label out of range; on a GPU, CUDA would end the process with an assertion."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; raise `SettingError` or `DatasetError` if a label is out of range."""
        try:
            return super().forward(scores, labels)
        except IndexError as fault:
            classes, low, high = scores.shape[1], int(labels.min()), int(labels.max())
            said = f"the dataset has the label {low if low < 0 else high}"
            raise (negative(said, low) if low < 0 else beyond(said, high, classes)) from fault


@configured
def cross_entropy(*, label_smoothing: float) -> nn.CrossEntropyLoss:
    """Return the cross entropy of scores `[batch, classes]` and labels `[batch]`: the mean over the batch."""
    return _CrossEntropy(label_smoothing=label_smoothing)


@configured
def class_names(known: tuple[str, ...], *, classes: int) -> list[str]:
    """Return the names of `classes` classes: the dataset's names, or the number of a class without a name."""
    return [known[at] if at < len(known) else str(at) for at in range(classes)]


@configured
def measures(*, classes: int) -> MetricCollection:
    """Return accuracy and F1 over `classes`."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes=classes, average="micro"),
            "f1": MulticlassF1Score(num_classes=classes, average="macro"),
        }
    )
