"""The classification task: predict one of several classes for each sample, with cross entropy as the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from trainer.base.errors import DatasetError, SettingError
from trainer.base.suggestions import all_are
from trainer.data.inspection import of_split
from trainer.runs.figure import PictureFigure
from trainer.settings.ledger import configured
from trainer.training.figures.charts import confusion, roc
from trainer.training.figures.picture import PictureRow, class_text, drawn, is_picture, numbered_note
from trainer.training.settings import ClassificationSettings
from trainer.training.tasks.area import ClassArea
from trainer.training.tasks.class_weights import described_weights, weights_of_classes
from trainer.training.tasks.metrics import IGNORED, OutputRows, loss_weight
from trainer.training.tasks.outputs import described, metrics_of, odd_probabilities, require_float, whole
from trainer.training.tasks.predictions import PredictionForm
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trainer.base.errors import RepriseError
    from trainer.data.inspection import FieldValues, Inspection, SplitValues, Value
    from trainer.runs.figure import Figure
    from trainer.training.readers import Batch
    from trainer.training.train_split import TrainSplit

__all__ = ["ClassificationSettings", "Classifier", "measures_with_auc"]

_TABLED: Final = 100
"""The largest number of classes for which the report has a confusion matrix."""
_CURVES: Final = 12
"""The largest number of classes for which the report has ROC curves."""
_WORST: Final = 16
COMMONLY_IGNORED: Final = 255
"""The label that masks and uint8 datasets commonly use for samples to ignore."""
_LISTED: Final = 5
_PACKAGE: Final = "trainer.training."


class Classifier(Task):
    """A net whose `forward` returns scores, float `[batch, classes]`; labels are integers below `classes`, `[batch]`.

    Metrics: accuracy over samples, F1 averaged over classes; AUC if `make_metrics` returns `measures_with_auc`.
    Figures: confusion matrix, ROC curve of each class, samples with the largest loss.
    """

    _class_weights: Tensor | None = None
    """The weight of each class in the loss, float `[classes]`; None if all classes count the same."""

    def fit_to_train(self, train: TrainSplit) -> list[str]:
        """Count the classes of the training split, if the loss weighs them, and fit every `Normalize`."""
        lines = super().fit_to_train(train)
        if not type(self).make_loss.__module__.startswith(_PACKAGE):
            return lines  # the experiment's own loss does not use the setting
        self._class_weights = weights_of_classes(lambda classes: self.class_counts(train, classes))
        if self._class_weights is None:
            return lines
        names = class_names(tuple(self.class_names))
        return [*lines, described_weights(self._class_weights, names)]

    def class_counts(self, train: TrainSplit, classes: int) -> list[int]:
        """Return the number of training labels of each class, for balanced weights."""
        return train.counts(self.used_fields()[-1], classes)

    def setup(self, stage: str) -> None:
        """Read the names of the classes and create loss, metrics and buffers."""
        self._named = class_names(tuple(self.class_names))
        super().setup(stage)

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the cross entropy."""
        return cross_entropy(self._class_weights)

    def make_metrics(self) -> MetricCollection:
        """Return accuracy and F1."""
        return measures()

    def split_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the inputs and the labels of a batch, int64 for labels of any integer type."""
        given, labels = super().split_batch(batch)
        return given, whole(labels)

    def _input_and_target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        # An experiment's own `split_batch` may return labels of any integer type.
        given, labels = super()._input_and_target(batch)
        return given, whole(labels)

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the labels are not integers."""
        del given
        if whole(wanted).dtype != torch.int64:
            message = f"labels are {described(wanted)}; a classification expects integers, [batch]"
            is_whole = not wanted.is_floating_point() or (wanted.ndim == 1 and bool((wanted == wanted.round()).all()))
            raise DatasetError(message, hint=_INTEGERS if is_whole else _KIND)

    def check_values(self, seen: Inspection) -> list[str]:
        """Raise `DatasetError` or `SettingError` if a label of any split is not a class; note classes without a training sample."""
        labels = seen.field(self._used[-1])
        require_classes(labels, classes=len(self._named))
        return [*not_trained_on(labels, self._named)]

    def prediction_form(self) -> PredictionForm:
        """Return the form of predictions: the most probable class and the softmax of the scores; for maps, the class of each pixel."""
        return PredictionForm(kind="class", names=tuple(class_names(tuple(self.class_names))))

    def undefined_on(self, seen: SplitValues) -> dict[str, str]:
        """Return AUC, with the reason, if a split has samples of one class only."""
        labels = seen.fields.get(self._used[-1])
        values = labels.values if labels else None
        if "auc" not in metrics_of(self) or not values or len(values) > 1:
            return {}
        return {"auc": f"{all_are(values[0].count, 'sample')} of class {self._named[values[0].value]}"}

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

    def counted(self, wanted: Tensor) -> Tensor | int:
        """Return the number of labels that the loss does not ignore or, with class weights, the sum of their weights."""
        return loss_weight(self.loss, wanted)

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return buffers for the predictions, for all scores if there are few classes, and for the samples with the largest loss."""
        kept = {"worst": OutputRows("loss", "given", "predicted", "confidence", "label", by="loss", most=_WORST)}
        if len(self._named) <= _TABLED:
            kept["table"] = OutputRows("predicted", "label")
        if len(self._named) <= _CURVES:
            kept["curves"] = OutputRows("scores", "label")
        return kept

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a batch that the figures need."""
        if wanted.ndim > 1:
            return
        scores, labels = predicted.float().log_softmax(dim=1), wanted.long()
        confidence, top = scores.exp().max(dim=1)
        columns = {"predicted": top, "label": labels, "confidence": confidence, "scores": scores.exp(), "given": given}
        columns["loss"] = F.nll_loss(scores, labels, reduction="none")
        for name, rows in self.kept.items():
            if name != "worst" or is_picture(given[0]):
                rows.update(**columns)  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the confusion matrix, the ROC curves and the samples with the largest loss."""
        found: dict[str, dict[str, Tensor]] = {name: rows.columns() for name, rows in self.kept.items()}  # type: ignore[operator]
        drawings = {
            "table": lambda columns: confusion(columns["predicted"], columns["label"], self._named),
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
        parts = list(zip(*(columns[name].tolist() for name in ("label", "predicted", "confidence")), strict=True))
        names, shown = self._named, [class_text(label, self._named) for label in range(len(self._named))]
        captions = [f"{100 * sure:.0f}% {names[top]}, is {names[label]}" for label, top, sure in parts]
        drawable = [f"{100 * sure:.0f}% {shown[top]}, is {shown[label]}" for label, top, sure in parts]
        title = "Samples with the largest test losses"
        rows = PictureRow.several(title, [{"image": each} for each in columns["given"]], drawable)
        self.pictures["most-wrong.png"] = drawn(rows, note=numbered_note(names))
        return PictureFigure(name="most-wrong", title=title, file="most-wrong.png", captions=tuple(captions))


def _axes(labels: Tensor) -> str:
    if labels[0].numel() == 1:
        return "publish one number per sample: numpy.save(FILE, labels.reshape(-1))"
    if labels.shape[1] == 1:
        return "publish them without their second axis: numpy.save(FILE, labels[:, 0])"
    return "if each row is 1 at its class (one-hot), publish labels.argmax(axis=1)"


_KIND: Final = "set --target-field to the field of the class number, or choose another kind of task"
_INTEGERS: Final = "publish labels.astype('int64'), or publish the column of a table with --column label=COLUMN:int64"


class CrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy that, on a CPU, raises an error with a hint for a label out of range. On a GPU, an assertion of CUDA fails."""

    def __init__(self, weight: Tensor | None, *, label_smoothing: float) -> None:
        super().__init__(label_smoothing=label_smoothing)
        if weight is not None:
            del self.weight
            # not saved: computed from the settings or the training split
            self.register_buffer("weight", weight, persistent=False)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; on a CPU, raise `SettingError` or `DatasetError` if a label is out of range."""
        try:
            return super().forward(scores, labels)
        except IndexError as fault:
            classes, low, high = scores.shape[1], int(labels.min()), int(labels.max())
            message = f"the dataset has the label {low if low < 0 else high}"
            raise (negative(message, low) if low < 0 else beyond(message, high, classes)) from fault


@configured
def cross_entropy(weight: Tensor | None = None, *, label_smoothing: float) -> nn.CrossEntropyLoss:
    """Return the cross entropy of scores `[batch, classes]` and labels `[batch]`: the mean over the batch, weighted by class."""
    return CrossEntropy(weight, label_smoothing=label_smoothing)


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


@configured
def measures_with_auc(*, classes: int) -> MetricCollection:
    """Return accuracy and F1, and for two classes the area under the ROC curve of class 1."""
    metrics = measures(classes=classes)
    if classes == 2:  # noqa: PLR2004 - the curve distinguishes two classes
        metrics.add_metrics({"auc": ClassArea()})
    return metrics


def require_classes(labels: Mapping[str, FieldValues], *, classes: int) -> None:
    """Raise `DatasetError` or `SettingError` for a label that is not a class; the error counts the samples and names the first."""
    whole = {split: values for split, values in labels.items() if not values.dtype.startswith("float")}
    bounds = [(values.low.value, values.high.value) for values in whole.values() if values.low and values.high]
    if not bounds:
        return
    lowest, highest = int(min(low for low, _ in bounds)), int(max(high for _, high in bounds))
    if lowest < 0:
        raise negative(_holders(whole, lowest), lowest)
    if highest < classes:
        return
    if highest == COMMONLY_IGNORED and classes < COMMONLY_IGNORED and (fault := _ignored(whole, classes)):
        raise fault
    values = [each.values for each in whole.values()]
    known = None if None in values else len({value.value for each in values for value in each or ()})
    raise beyond(_holders(whole, highest), highest, classes, begin_at_one=lowest == 1, known=known)


def negative(message: str, label: int) -> DatasetError:
    """Return the error for a label below 0."""
    hint = "drop those samples, or give them a class, and publish again"
    if label == IGNORED:
        what = "torch's loss leaves such samples out, and the metrics would count them as errors"
        hint = f"{what}: {hint}; a net that masks such samples overrides `check_values`"
    return DatasetError(f"{message}; a class is 0 or more", hint=hint)


def beyond(
    message: str, label: int, classes: int, *, begin_at_one: bool = False, known: int | None = None
) -> RepriseError:
    """Return the error for a label without a score; `known` is the number of distinct labels."""
    found = f"{message}; {_scores(classes)}"
    if begin_at_one:
        also = "" if label == classes else f", and set classes to {label}"
        return DatasetError(
            f"{found}; no label is 0, so labels begin at 1",
            hint=f"subtract 1 from the labels and publish them again{also}",
        )
    if known is not None and known <= label // 2:
        numbered = "numpy.unique(labels, return_inverse=True)[1]"
        hint = f"publish numbers from 0 to {known - 1}: {numbered}; or set classes to {label + 1}"
        return DatasetError(f"{found}; there are {known} distinct labels", hint=hint)
    return SettingError(found, hint=f"set classes to {label + 1} or more")


def _ignored(labels: Mapping[str, FieldValues], classes: int) -> DatasetError | None:
    """Return the error for the label 255 among classes from 0, or None if 255 may be an ordinary class."""
    known = {each.value for values in labels.values() for each in values.values or ()}
    others = known - {COMMONLY_IGNORED}
    is_of_samples = not any(each.shape for values in labels.values() for each in values.shapes)
    if is_of_samples and not 0 < max(others, default=0) < COMMONLY_IGNORED - 1:  # 0 and 255 are black and white
        return None
    message = f"{_holders(labels, COMMONLY_IGNORED)}; {_scores(classes)}; 255 commonly marks labels to ignore"
    if not is_of_samples:
        return DatasetError(message, hint=_LEAVE_OUT)
    more = max(others) + 1
    also = f", and set classes to {more}" if more > classes else ""
    return DatasetError(f"{message}, and every other label is {max(others)} or less", hint=f"drop those samples{also}")


_LEAVE_OUT: Final = (
    "derive the net from Segmenter, with ignore_index (docs/how-to/experiments.md, Labels to ignore); for masks of 0 and 255, publish "
    "masks // 255; or set classes to 256"
)


def _scores(classes: int) -> str:
    return f"the net gives scores for {classes} classes, 0 to {classes - 1}"


def not_trained_on(labels: Mapping[str, FieldValues], names: Sequence[str]) -> Iterator[str]:
    """Yield notes on the classes without a sample in train."""
    train = labels.get("train")
    if train is None or train.values is None:
        return
    known = {each.value for each in train.values}
    lacking = [name if name == str(at) else f"{at} ({name})" for at, name in enumerate(names) if at not in known]
    if len(lacking) == 1:
        yield f"class {lacking[0]} has no sample in split train"
    elif lacking:
        more = f" and {len(lacking) - _LISTED:,} more" if len(lacking) > _LISTED else ""
        yield f"{len(lacking)} of {len(names)} classes have no sample in split train: {', '.join(lacking[:_LISTED])}{more}"


def _holders(labels: Mapping[str, FieldValues], label: int) -> str:
    """Return a sentence that counts the samples with a label in each split, and names the first of them.

    Samples are counted if each has one label; if a sample has several labels, as a mask does, only the splits are listed.
    """
    counts = {split: found for split, values in labels.items() if (found := _found(values, label))}
    if counts:
        total, first = sum(each.count for each in counts.values()), next(iter(counts.values())).name
        parts = [f"{each.count:,}{of_split(split)}" for split, each in counts.items()]
        parts[0] = parts[0].replace(" ", " sample " if next(iter(counts.values())).count == 1 else " samples ", 1)
        verb, where = ("has", first) if total == 1 else ("have", f"the first is in {first}")
        return f"{_joined(parts)} {verb} the label {label} ({where})"
    bounds = [(split, bound) for split, values in labels.items() for bound in (values.low, values.high) if bound]
    at_bound = {split: bound.name for split, bound in bounds if bound.value == label}
    splits = _joined([of_split(split) for split in at_bound])
    return f"labels{splits} include {label} (the first is in {next(iter(at_bound.values()))})"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _found(values: FieldValues, label: int) -> Value | None:
    return next((each for each in values.values or () if each.value == label), None)
