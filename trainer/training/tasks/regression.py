"""The regression task: predict a number for each sample, with the squared error as the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MetricCollection

from trainer.base.errors import DatasetError, ExperimentError
from trainer.base.suggestions import all_are
from trainer.training.figures.charts import histogram, parity
from trainer.training.settings import RegressionSettings
from trainer.training.tasks.metrics import R2, OutputRows
from trainer.training.tasks.outputs import described, require_float
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.inspection import Inspection, SplitValues
    from trainer.runs.figure import Figure

__all__ = ["RegressionSettings", "Regressor"]

_FEWEST: Final = 2
_KIND: Final = "declare the field as float32 in the dataset, or set --target-field to another field"


class Regressor(Task):
    """A net whose `forward` returns a number for each sample, float `[batch]`; targets have the same shape.

    Metrics: mean absolute error, and R2, the fraction of variance explained. Figures: predicted against true values, and the residuals.
    """

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the mean squared error."""
        return nn.MSELoss()

    def make_metrics(self) -> MetricCollection:
        """Return the mean absolute error and R2."""
        return MetricCollection({"mae": MeanAbsoluteError(), "r2": R2()})

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the targets are not floats."""
        del given
        if not wanted.is_floating_point():
            raise DatasetError(f"targets are {described(wanted)}; a regression expects float32 [batch]", hint=_KIND)

    def check_values(self, seen: Inspection) -> list[str]:
        """Note a training split whose targets are all equal."""
        same = _same(seen.splits.get("train"), self._used[-1])
        return [] if same is None else [f"all targets of split train are {same:g}: the net learns that number"]

    def undefined_on(self, seen: SplitValues) -> dict[str, str]:
        """Return R2, with the reason, if the split has fewer than two distinct targets."""
        values = seen.fields.get(self._used[-1])
        count = seen.samples * (math.prod(values.shapes[0].shape) if values and values.shapes else 1)
        if count < _FEWEST:
            return {"r2": f"the split has {count} target{'' if count == 1 else 's'}; R2 needs 2"}
        same = _same(seen, self._used[-1])
        return {} if same is None else {"r2": f"{all_are(count, 'target')} {same:g}"}

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the shapes of output and targets differ: `[batch, 1]` and `[batch]` would broadcast to all pairs."""
        column = wanted.shape[1:] == (1,)
        if column and getattr(predicted, "shape", None) == wanted.shape[:1]:
            message = (
                f"{type(self).__name__}.forward returns {described(predicted)}; the targets are {described(wanted)}"
            )
            raise ExperimentError(message, hint="publish the targets as y[:, 0], or keep the last dimension in forward")
        require_float(self, predicted, tuple(wanted.shape), is_="a number for each target")

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return a buffer for predictions and targets."""
        return {"numbers": OutputRows("predicted", "true")}

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a batch that the figures need."""
        del given
        self.kept["numbers"].update(predicted=predicted.float().flatten(), true=wanted.float().flatten())  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the plot of predicted against true values, and the histogram of the residuals."""
        found: dict[str, Tensor] = self.kept["numbers"].columns()  # type: ignore[operator]
        finite = torch.isfinite(found["predicted"]) & torch.isfinite(found["true"]) if found else torch.zeros(0)
        if not finite.any():
            return []
        predicted, true = found["predicted"][finite], found["true"][finite]
        away = histogram("residuals", "Residuals", "predicted - true", {"test": predicted - true})
        return [parity(true, predicted), *([away] if away else [])]


def _same(seen: SplitValues | None, field: str) -> float | None:
    values = seen.fields.get(field) if seen else None
    if values is None or values.low is None or values.high is None or values.not_finite:
        return None
    return values.low.value if values.low.value == values.high.value else None
