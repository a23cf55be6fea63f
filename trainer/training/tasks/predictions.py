"""How a net's outputs become predictions. The form is data, so a model package needs no code of the experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from trainer.base.document import Document
from trainer.base.errors import ExperimentError
from trainer.base.suggestions import type_with_article

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

OUTPUT: Final = "output"
SCORES: Final = "scores"
CLASSES: Final = "classes"
_HALF: Final = 0.5
_SCORES_NDIM: Final = 2
"""Axes of scores of samples: batch and classes; maps have more."""


class PredictionForm(Document):
    """How a net's outputs become predictions."""

    kind: Literal["class", "labels", "values"] = "values"
    """`class`: one of several classes, by scores `[batch, classes, ...]`; `labels`: any of several labels; `values`: the numbers."""
    names: tuple[str, ...] = ()
    """The names of the classes or labels, by number."""

    def outputs(self, predicted: Any) -> dict[str, Tensor]:
        """Return the output of `forward` as named tensors `[batch, ...]`; operations on tensors only, so that they can be exported.

        `scores` are the softmax of classes or the sigmoid of labels. Of maps `[batch, classes, ...]`, `classes` is the class of each pixel,
        int64 `[batch, ...]`. Several tensors have the names of a dict, or `output_0`, `output_1`. Raise `ExperimentError` for other values.
        """
        if self.kind == "values":
            return _named(predicted)
        if self.kind == "labels":
            return {OUTPUT: predicted, SCORES: predicted.float().sigmoid()}
        if predicted.ndim > _SCORES_NDIM:
            return {OUTPUT: predicted, CLASSES: predicted.argmax(1)}
        return {OUTPUT: predicted, SCORES: predicted.float().softmax(1)}

    def predictions(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Return the prediction for each sample of named outputs, as a mapping of JSON values. A number may be NaN or infinite."""
        match self.kind:
            case "class" if SCORES in outputs:
                return [self._class(row) for row in outputs[SCORES].tolist()]
            case "class":
                return [{"shares": self._shares(each), OUTPUT: each.tolist()} for each in outputs[CLASSES]]
            case "labels":
                return [self._labels(row) for row in outputs[SCORES].tolist()]
            case "values":
                columns = {name: each.tolist() for name, each in outputs.items()}
                return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _class(self, row: Sequence[float]) -> dict[str, Any]:
        best = max(range(len(row)), key=row.__getitem__)
        return {"class": self.names[best], SCORES: dict(zip(self.names, row, strict=True))}

    def _labels(self, row: Sequence[float]) -> dict[str, Any]:
        scores = dict(zip(self.names, row, strict=True))
        return {"labels": [name for name, score in scores.items() if score > _HALF], SCORES: scores}

    def _shares(self, classes: Tensor) -> dict[str, float]:
        """Return the share of the elements of each class."""
        counts = classes.flatten().bincount(minlength=len(self.names)).tolist()
        return {name: count / classes.numel() for name, count in zip(self.names, counts, strict=True)}


def _named(predicted: Any) -> dict[str, Tensor]:
    if _is_tensor(predicted):
        return {OUTPUT: predicted}
    several = dict(predicted) if isinstance(predicted, Mapping) else {}
    if isinstance(predicted, tuple | list):
        several = {f"{OUTPUT}_{number}": each for number, each in enumerate(predicted)}
    if not several or not all(_is_tensor(each) for each in several.values()):
        message = (
            f"`forward` returns {type_with_article(predicted)}; expected a tensor, or several in a dict or a tuple"
        )
        raise ExperimentError(message, hint="return tensors [batch, ...]")
    return {str(name): each for name, each in several.items()}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "softmax")  # hosts without torch read packages too
