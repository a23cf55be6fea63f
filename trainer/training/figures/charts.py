"""Charts that tasks share: figures of the results of a test, from tensors on the CPU.

The functions return data and do not draw. `roc` and `histogram` omit values that are not finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torchmetrics.functional.classification import binary_roc, multiclass_confusion_matrix

from trainer.runs.figure import BarFigure, Heights, LineFigure, MatrixFigure, PointFigure, Series, spread_indices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_EACH: Final = 200
"""Maximum number of points per curve."""
_BARS: Final = 30


def confusion(predicted: Tensor, true: Tensor, names: Sequence[str]) -> MatrixFigure:
    """Return the confusion matrix of two tensors of class numbers `[samples]`."""
    counts = multiclass_confusion_matrix(predicted, true, num_classes=len(names))
    return MatrixFigure(
        name="confusion",
        title="Confusion matrix",
        row_label="true class",
        column_label="predicted class",
        rows=tuple(names),
        columns=tuple(names),
        counts=tuple(tuple(row) for row in counts.tolist()),
    )


def roc(curves: Mapping[str, tuple[Tensor, Tensor]], *, title: str) -> LineFigure | None:
    """Return ROC curves by name, from scores in 0 to 1 and positive flags, both `[samples]`; None if no curve is defined."""
    drawn = [_roc(name, scores, positive.long()) for name, (scores, positive) in curves.items()]
    series = tuple(line for line in drawn if line is not None)
    if not series:
        return None
    labels = {"x_label": "false positive rate", "y_label": "true positive rate"}
    return LineFigure(name="roc", title=title, series=series, diagonal=True, **labels)


def _roc(name: str, scores: Tensor, positive: Tensor) -> Series | None:
    fine = torch.isfinite(scores)
    if len(set(positive[fine].tolist())) < 2:  # noqa: PLR2004 - a curve needs positive and negative samples
        return None
    x, y, _ = binary_roc(scores[fine].double(), positive[fine])
    corners = _corners(x, y)
    at = [corners[place] for place in spread_indices(len(corners), limit=_EACH)]
    return Series(name=name, x=tuple(x[at].tolist()), y=tuple(y[at].tolist()))


def _corners(x: Tensor, y: Tensor) -> list[int]:
    """Return the indices of the corners of a step curve: the points between them are redundant."""
    flat = (x[1:] == x[:-1]).tolist(), (y[1:] == y[:-1]).tolist()
    inner = [at for at in range(1, len(x) - 1) if not any(way[at - 1] and way[at] for way in flat)]
    return [0, *inner, len(x) - 1]


def parity(true: Tensor, predicted: Tensor) -> PointFigure:
    """Return the plot of predicted over true values, both `[samples]`."""
    at = spread_indices(len(true))
    labels = {"title": "Predicted against true", "x_label": "true", "y_label": "predicted"}
    x, y = tuple(true[at].tolist()), tuple(predicted[at].tolist())
    return PointFigure(name="parity", x=x, y=y, of=len(true), diagonal=True, **labels)


def histogram(name: str, title: str, x_label: str, values: Mapping[str, Tensor]) -> BarFigure | None:
    """Return a histogram of sets of values `[samples]` by name, with shared bins; None if there are no values."""
    finite = {key: value.double()[torch.isfinite(value)] for key, value in values.items()}
    everything = torch.cat(list(finite.values()))
    if not len(everything):
        return None
    low, high = float(everything.min()), float(everything.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = [low + (high - low) * at / _BARS for at in range(_BARS + 1)]
    series = tuple(
        Heights(name=key, y=tuple(torch.histc(value, _BARS, low, high).tolist())) for key, value in finite.items()
    )
    return BarFigure(name=name, title=title, x_label=x_label, y_label="samples", edges=tuple(edges), series=series)
