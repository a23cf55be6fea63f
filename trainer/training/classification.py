"""Classification: one of several classes for each sample.

Knows the loss (cross entropy), the metrics, the checks and the figures of a classifier. Refuses to know its net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from trainer.errors import DatasetError, SettingError
from trainer.figure import Pictures
from trainer.ledger import configured
from trainer.training.charts import confusion, roc
from trainer.training.outputs import described, require_float
from trainer.training.picture import Row, drawn, is_picture
from trainer.training.rows import Rows
from trainer.training.settings import ClassificationSettings
from trainer.training.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.figure import Figure

__all__ = ["ClassificationSettings", "Classifier"]

_TABLED: Final = 100
"""More classes make a table that nobody reads."""
_CURVES: Final = 12
"""More curves cannot be told apart."""
_WORST: Final = 16


class Classifier(Task):
    """A net whose `forward` gives scores, float `[batch, classes]`; labels are whole numbers, `[batch]`, below `classes`.

    Metrics: accuracy over samples, F1 averaged over classes. Figures: confusion matrix, ROC of each class, the most wrong samples.
    """

    def setup(self, stage: str) -> None:
        """Know what the classes are called."""
        self._named = class_names(tuple(self.class_names))
        super().setup(stage)

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the cross entropy."""
        return cross_entropy()

    def make_metrics(self) -> MetricCollection:
        """Make accuracy and F1."""
        return measures()

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` where labels are no class numbers."""
        del given
        if wanted.dtype not in _NUMBERS:
            raise DatasetError(f"labels are {described(wanted)}; a classification expects int64 [batch]", hint=_KIND)

    def check_labels(self, labels: Sequence[int]) -> None:
        """Raise `SettingError` where a label has no score."""
        if labels and max(labels) >= len(self._named):
            raise beyond(max(labels), classes=len(self._named))

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` where there is not a score for each class."""
        require_float(self, predicted, (len(wanted), len(self._named), *wanted.shape[1:]), is_="a score for each class")

    def make_kept(self) -> dict[str, Rows]:
        """Keep scores and labels, and the samples with the largest loss."""
        if len(self._named) > _TABLED:
            return {}
        worst = Rows("loss", "given", "scores", "label", by="loss", most=_WORST)
        return {"scored": Rows("scores", "label"), "worst": worst}

    def note(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Keep of a batch what its figures need."""
        if not self.kept or wanted.ndim > 1:
            return
        scores = predicted.float().softmax(dim=1)
        self.kept["scored"].update(scores=scores, label=wanted)  # type: ignore[operator]
        if is_picture(given[0]):
            loss = F.nll_loss(scores.log(), wanted.long(), reduction="none")
            self.kept["worst"].update(loss=loss, given=given, scores=scores, label=wanted)  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Show the confusion matrix, the ROC curves, the most wrong samples."""
        found: dict[str, Tensor] = self.kept["scored"].columns() if self.kept else {}  # type: ignore[operator]
        if not found:
            return []
        scores, labels = found["scores"], found["label"].long()
        shown = [confusion(scores.argmax(dim=1), labels, self._named), self._roc(scores, labels), self._worst()]
        return [figure for figure in shown if figure is not None]

    def _roc(self, scores: Tensor, labels: Tensor) -> Figure | None:
        if len(self._named) > _CURVES:
            return None
        if len(self._named) == 2:  # noqa: PLR2004 - one curve says it all
            return roc({self._named[1]: (scores[:, 1], labels == 1)}, title=f"ROC of {self._named[1]}")
        curves = {name: (scores[:, at], labels == at) for at, name in enumerate(self._named)}
        return roc(curves, title="ROC of each class against the others")

    def _worst(self) -> Figure | None:
        worst: dict[str, Tensor] = self.kept["worst"].columns()  # type: ignore[operator]
        if not worst:
            return None
        said, sure = worst["scores"].argmax(dim=1).tolist(), worst["scores"].amax(dim=1).tolist()
        captions = [
            f"{self._named[label]} as {self._named[at]}, {100 * chance:.0f}%"
            for label, at, chance in zip(worst["label"].tolist(), said, sure, strict=True)
        ]
        title = "Most wrong: the largest losses of the test"
        rows = Row.several(title, [{"image": each} for each in worst["given"]], captions)
        self.pictures["most-wrong.png"] = drawn(rows)
        return Pictures(name="most-wrong", title=title, file="most-wrong.png", captions=tuple(captions))


_NUMBERS: Final = (torch.int64, torch.uint8)
_KIND: Final = "give --target-field the field of the class number, or choose another kind of task"


class _CrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy that says which setting a label does not fit; on a GPU such a label ends the process in CUDA's own words."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Give the loss. Raises `SettingError`."""
        try:
            return super().forward(scores, labels)
        except IndexError as fault:
            raise beyond(int(labels.max()), classes=scores.shape[1]) from fault


def beyond(label: int, *, classes: int) -> SettingError:
    """Word a label that is no class of the net's."""
    said = f"the dataset has the label {label}; the net gives scores for {classes} classes, 0 and up"
    return SettingError(said, hint=f"set classes to {label + 1} or more")


@configured
def cross_entropy(*, label_smoothing: float) -> nn.CrossEntropyLoss:
    """Cross entropy of scores `[batch, classes]` and labels `[batch]`, a mean over the batch."""
    return _CrossEntropy(label_smoothing=label_smoothing)


@configured
def class_names(known: tuple[str, ...], *, classes: int) -> list[str]:
    """Name each of `classes`: as the dataset does, else by its number."""
    return [known[at] if at < len(known) else str(at) for at in range(classes)]


@configured
def measures(*, classes: int) -> MetricCollection:
    """Accuracy and F1 over `classes`."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes=classes, average="micro"),
            "f1": MulticlassF1Score(num_classes=classes, average="macro"),
        }
    )
