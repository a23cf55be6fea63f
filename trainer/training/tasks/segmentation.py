"""The segmentation task: predict the class of each pixel, with cross entropy over the pixels as the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from trainer.base.errors import DatasetError, ExperimentError
from trainer.runs.figure import PictureFigure
from trainer.settings.ledger import configured
from trainer.training.figures.picture import PictureRow, drawn, is_picture
from trainer.training.settings import SegmentationSettings
from trainer.training.tasks.classification import Classifier, CrossEntropy, require_classes
from trainer.training.tasks.metrics import Accuracy, MeanIoU, OutputRows
from trainer.training.tasks.outputs import described, require_float, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.inspection import FieldValues, Inspection
    from trainer.runs.figure import Figure
    from trainer.training.train_split import TrainSplit

__all__ = ["SegmentationSettings", "Segmenter"]

_WORST: Final = 16
_AXES: Final = 3
"""Batch, height and width."""
_KIND: Final = "set --target-field to the field of the masks; a mask holds the number of a class at each pixel"
_COLORS: Final = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Colors that people with any color vision can distinguish (Okabe and Ito, 2008), in the order of the classes; they repeat."""
_GRAY: Final = (128, 128, 128)


class Segmenter(Classifier):
    """A net whose `forward` returns scores, float `[batch, classes, height, width]`; masks hold integers, `[batch, height, width]`.

    Pixels of the class `ignore_index` count neither in the loss nor in the metrics. Metrics: accuracy, and the mean intersection
    over union (`iou`). Figure: the samples with the largest loss, with their masks and predictions.
    """

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the cross entropy over pixels."""
        return pixel_loss(self._class_weights)

    def make_metrics(self) -> MetricCollection:
        """Return accuracy and mean intersection over union."""
        return pixel_measures()

    def class_counts(self, train: TrainSplit, classes: int) -> list[int]:
        """Return the number of training pixels of each class, without ignored pixels."""
        ignored = ignored_class()
        counts = super().class_counts(train, classes)
        return [0 if number == ignored else count for number, count in enumerate(counts)]

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the masks are not integers, `[batch, height, width]`."""
        del given
        if whole(wanted).dtype != torch.int64 or wanted.ndim != _AXES:
            message = f"masks are {described(wanted)}; a segmentation expects integers, [batch, height, width]"
            axis = wanted.ndim == _AXES + 1 and wanted.shape[1] == 1
            raise DatasetError(message, hint="publish them without their second axis: masks[:, 0]" if axis else _KIND)

    def check_values(self, seen: Inspection) -> list[str]:
        """Raise `DatasetError` or `SettingError` if a mask of any split has a label that is neither a class nor ignored."""
        labels, ignored, classes = seen.field(self._used[-1]), ignored_class(), len(self._named)
        known = {split: values for split, values in labels.items() if not _is_bound(values, ignored)}
        if ignored is None and any(_is_bound(values, 255) for values in labels.values()) and classes <= 255:  # noqa: PLR2004 - uint8
            message = f"masks include the label 255; the net gives scores for {classes} classes, 0 to {classes - 1}"
            raise DatasetError(f"{message}; 255 commonly marks pixels without a class", hint="--ignore-index 255")
        require_classes(known, classes=classes)
        return []

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output is not one score for each class at each pixel of the mask."""
        expected = (len(wanted), len(self._named), *wanted.shape[1:])
        if (
            getattr(predicted, "ndim", 0) == len(expected)
            and predicted.shape[:2] == expected[:2]
            and predicted.shape != expected
        ):
            message = f"{type(self).__name__}.forward returns {described(predicted)}; the masks are {described(wanted)}"
            hint = f"resize the scores: F.interpolate(scores, size=({', '.join(map(str, wanted.shape[1:]))}), mode='bilinear')"
            raise ExperimentError(message, hint=hint)
        require_float(self, predicted, expected, is_="a score for each class at each pixel")

    def metric_inputs(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predicted class and the class of each pixel, int64 `[batch, height, width]` each."""
        return predicted.argmax(dim=1), wanted.long()

    def counted(self, wanted: Tensor) -> Tensor:
        """Return the number of pixels that are not ignored, each with the weight of its class."""
        loss = self.loss
        return (
            loss.mass(wanted)
            if isinstance(loss, PixelCrossEntropy)
            else torch.tensor(wanted.numel(), device=wanted.device)
        )

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return a buffer for the samples with the largest loss."""
        return {"worst": OutputRows("loss", "given", "predicted", "mask", by="loss", most=_WORST)}

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a batch that the figure needs."""
        if not is_picture(given[0]) or given.shape[2:] != wanted.shape[1:]:
            return
        ignored, classes = ignored_class(), predicted.argmax(dim=1)
        known = torch.ones_like(wanted, dtype=torch.bool) if ignored is None else wanted != ignored
        scores = predicted.float().log_softmax(dim=1)
        picked = -scores.gather(1, torch.where(known, wanted.long(), 0)[:, None])[:, 0]
        loss = (picked * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)
        mask = torch.where(known, wanted.long(), -1)
        self.kept["worst"].update(loss=loss, given=given, predicted=classes, mask=mask)  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the samples with the largest loss: picture, mask and prediction side by side."""
        worst: dict[str, Tensor] = self.kept["worst"].columns()  # type: ignore[operator]
        if not worst:
            return []
        title = "Samples with the largest test losses: picture, mask, prediction"
        captions = [f"loss {loss:.3g}" for loss in worst["loss"].tolist()]
        pictures = [
            {"image": torch.cat([_in_color(given), colored(mask), colored(classes)], dim=-1)}
            for given, mask, classes in zip(worst["given"], worst["mask"], worst["predicted"], strict=True)
        ]
        self.pictures["most-wrong.png"] = drawn(PictureRow.several(title, pictures, captions))
        return [PictureFigure(name="most-wrong", title=title, file="most-wrong.png", captions=tuple(captions))]


def _is_bound(values: FieldValues, label: int | None) -> bool:
    return label is not None and any(bound.value == label for bound in (values.low, values.high) if bound)


def _in_color(picture: Tensor) -> Tensor:
    values = picture.float() / 255 if picture.dtype == torch.uint8 else picture.float()
    return values[:1].expand(3, -1, -1) if len(values) < 3 else values[:3]  # noqa: PLR2004 - channels


def colored(mask: Tensor) -> Tensor:
    """Return a mask `[height, width]` as a picture, float `[3, height, width]` from 0 to 1; ignored pixels, -1, are gray."""
    colors = torch.tensor([*_COLORS, _GRAY], dtype=torch.float32) / 255
    return colors[torch.where(mask < 0, len(_COLORS), mask % len(_COLORS))].permute(2, 0, 1)


class PixelCrossEntropy(CrossEntropy):
    """Cross entropy over pixels: the mean over the pixels that are not ignored; 0 if all are ignored.

    Pixels are flattened to rows, because torch has no deterministic GPU kernel for the loss over pictures.
    """

    def __init__(self, weight: Tensor | None, *, label_smoothing: float, ignore_index: int | None) -> None:
        super().__init__(weight, label_smoothing=label_smoothing)
        self.reduction = "sum"
        if ignore_index is not None:
            self.ignore_index = ignore_index

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of scores `[batch, classes, height, width]` and masks `[batch, height, width]`."""
        rows, wanted = scores.movedim(1, -1).flatten(0, -2), labels.flatten().long()
        return super().forward(rows, wanted) / self.mass(wanted).to(rows.dtype).clamp(min=1e-30)

    def mass(self, labels: Tensor) -> Tensor:
        """Return the sum of the weights of the pixels that are not ignored, float64 `[]`."""
        labels = whole(labels)
        known = labels != self.ignore_index
        if self.weight is None:
            return known.sum().double()
        return (self.weight[torch.where(known, labels, 0)].double() * known).sum()


@configured
def pixel_loss(weight: Tensor | None, *, label_smoothing: float, ignore_index: int | None) -> PixelCrossEntropy:
    """Return the cross entropy over pixels."""
    return PixelCrossEntropy(weight, label_smoothing=label_smoothing, ignore_index=ignore_index)


@configured
def ignored_class(*, ignore_index: int | None) -> int | None:
    """Return the label of ignored pixels."""
    return ignore_index


@configured
def pixel_measures(*, classes: int, ignore_index: int | None) -> MetricCollection:
    """Return accuracy and mean intersection over union."""
    return MetricCollection(
        {
            "accuracy": Accuracy(num_classes=classes, average="micro", ignore_index=ignore_index),
            "iou": MeanIoU(classes, ignore_index=ignore_index),
        }
    )
