"""Several outputs of one net: each has a target field, a loss and metrics; the net learns the weighted sum of the losses."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from dataclasses import field as with_default
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from trainer.base.errors import DatasetError, ExperimentError
from trainer.base.suggestions import did_you_mean, listed, type_with_article
from trainer.settings.ledger import configured
from trainer.training.settings import MultiTaskSettings
from trainer.training.tasks.metrics import IGNORED, MeanLoss, loss_weight
from trainer.training.tasks.outputs import described, whole
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainer.data.inspection import FieldValues, Inspection
    from trainer.training.readers import Batch

__all__ = ["MultiTask", "MultiTaskSettings", "Output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output of a net."""

    field: str
    """The field of the target."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """The loss of predictions and targets: a scalar, the mean over the batch."""
    metrics: Mapping[str, Metric] = with_default(default_factory=dict)
    """The metrics by name, each updated with predictions and targets."""
    weight: float = 1.0
    """The factor of the loss in the sum."""


class MultiTask(Task):
    """A net whose `forward` returns a dict with a tensor `[batch, ...]` for each output of `make_outputs`.

    Metrics: for each output its loss, such as `digit_loss`, and its metrics, such as `digit_accuracy`.
    """

    @abstractmethod
    def make_outputs(self) -> Mapping[str, Output]:
        """Return the outputs by name."""

    def used_fields(self) -> tuple[str, ...]:
        """Return the names of the input fields, and of the target field of each output."""
        outputs = self._outputs()
        self._targets = {name: output.field for name, output in outputs.items()}
        self._of_classes = {name for name, output in outputs.items() if _takes_classes(output.loss)}
        return (*(self.input_fields or (given_field(),)), *self._targets.values())

    def given_fields(self) -> tuple[str, ...]:
        """Return the names of the input fields."""
        used = self.used_fields()
        return used[: len(used) - len(self._targets)]

    def split_batch(self, batch: Batch) -> tuple[Any, Any]:
        """Return the inputs, a tuple if there are `input_fields`, and a dict with the targets of each output.

        Integers are converted to int64, but uint8 and bool only if the loss takes classes: as an index, they are a mask, unlike int64.
        """
        given = tuple(batch[name] for name in self.input_fields) or batch[self._used[0]]
        return given, {name: self._target(name, batch[each]) for name, each in self._targets.items()}

    def _target(self, name: str, target: Any) -> Any:
        selects = isinstance(target, Tensor) and target.dtype in {torch.uint8, torch.bool}
        return target if selects and name not in self._of_classes else whole(target)

    def make_loss(self) -> Callable[[Any, Any], Tensor]:
        """Return the weighted sum of the losses."""
        return SummedLoss(self._outputs())

    def make_metrics(self) -> MetricCollection:
        """Return the loss and the metrics of each output. Raise `ExperimentError` if two of them have one name."""
        found: dict[str, Metric] = {}
        for name, output in self._outputs().items():
            own: dict[str, Metric] = {
                f"{name}_{metric}": _OutputMetric(name, each) for metric, each in output.metrics.items()
            }
            losses: dict[str, Metric] = {f"{name}_loss": _OutputLoss(name, output.loss)}
            if twice := next(
                (each for each in (*own, *losses) if each in found or (each in own and each in losses)), None
            ):
                message = f"{type(self).__name__}.make_outputs returns two values that are named {twice!r}"
                raise ExperimentError(
                    message, hint="rename a metric or an output; OUTPUT_loss is the loss of an output"
                )
            found |= losses | own
        return MetricCollection(found, compute_groups=False)  # type: ignore[arg-type]

    def check_output(self, predicted: Any, wanted: Any) -> None:
        """Raise `ExperimentError` if the output is not a dict with a float tensor for each output."""
        name, expected = type(self).__name__, f"a dict with {listed(list(wanted))}"
        if not isinstance(predicted, dict):
            found = described(predicted) if isinstance(predicted, Tensor) else type_with_article(predicted)
            raise ExperimentError(
                f"{name}.forward returns {found}; expected {expected}", hint=f"return {_example(wanted)}"
            )
        if odd := [*(key for key in wanted if key not in predicted), *(key for key in predicted if key not in wanted)]:
            message = (
                f"{name}.forward returns {'no' if odd[0] in wanted else 'the'} output {odd[0]!r}; expected {expected}"
            )
            raise ExperimentError(message, hint=did_you_mean(str(odd[0]), predicted if odd[0] in wanted else wanted))
        for key, target in wanted.items():
            self._check_one(key, predicted[key], target)

    def check_scores(self, predicted: Any, seen: Inspection) -> None:
        """Raise `DatasetError` if a target is not a class of its output or, for a binary cross entropy, is outside of 0 to 1."""
        for name, output in self._outputs().items():
            labels, scores = seen.field(output.field), predicted[name]
            if _takes_classes(output.loss):
                ignored = getattr(output.loss, "ignore_index", IGNORED)
                require_targets(name, labels, classes=scores.shape[1] if scores.ndim > 1 else 0, ignored=ignored)
            elif isinstance(output.loss, nn.BCEWithLogitsLoss) or output.loss is F.binary_cross_entropy_with_logits:
                require_shares(name, labels)

    def _check_one(self, key: str, found: Any, target: Tensor) -> None:
        shown = described(found) if isinstance(found, Tensor) else type_with_article(found)
        message = f"{type(self).__name__}.forward returns {key!r} as {shown}; the targets are {described(target)}"
        if (
            not isinstance(found, Tensor)
            or not found.is_floating_point()
            or not found.ndim
            or len(found) != len(target)
        ):
            raise ExperimentError(
                f"{message}; expected float [{len(target)}, ...]", hint="correct what `forward` returns"
            )
        if found.ndim == target.ndim and found.shape != target.shape:
            raise ExperimentError(
                f"{message}; their shapes would broadcast to all pairs", hint="make their shapes equal"
            )
        if found.ndim != target.ndim and target.is_floating_point():
            raise ExperimentError(f"{message}; expected equal shapes", hint="remove the last axis in `forward`: [:, 0]")

    def counted(self, wanted: Any) -> int:
        """Return the number of samples."""
        return len(next(iter(wanted.values())))

    def check_batch(self, given: Any, wanted: Any) -> None:
        """Raise `DatasetError` if a target has no batch axis."""
        del given
        for name, target in wanted.items():
            if not target.ndim:
                raise DatasetError(
                    f"targets of {name!r} are {described(target)}; expected [batch, ...]",
                    hint="return at least `[batch]` for that field from the dataset's reader",
                )

    def _mean_loss(self, split: str, found: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the mean losses of the outputs, whose means have different weights in a batch."""
        names = [f"{split}_{name}_loss" for name in self._targets]
        if not isinstance(self.loss, SummedLoss) or any(name not in found for name in names):
            return super()._mean_loss(split, found)
        weights = self.loss.weights.values()
        return torch.stack([weight * found[name] for weight, name in zip(weights, names, strict=True)]).sum()

    def _outputs(self) -> Mapping[str, Output]:
        made: Any = self.make_outputs()
        if not isinstance(made, dict) or not made or not all(isinstance(each, Output) for each in made.values()):
            what = type_with_article(made)
            if isinstance(made, dict):
                what = "a dict of other values" if made else "an empty dict"
            message = f"{type(self).__name__}.make_outputs returns {what}; expected a dict of Output by name"
            raise ExperimentError(message, hint='return {"NAME": Output(field="FIELD", loss=nn.CrossEntropyLoss())}')
        if odd := next((name for name in made if not str(name).isidentifier()), None):
            raise ExperimentError(f"an output is named {odd!r}; expected letters, digits and _", hint="rename it")
        if bad := next((name for name, each in made.items() if not 0 <= each.weight < float("inf")), None):
            message = f"the weight of output {bad!r} is {made[bad].weight}; expected 0 or more"
            raise ExperimentError(message, hint=f"set the weight of Output {bad!r} to 0 or more")
        found: Mapping[str, Output] = made
        return found


def require_targets(name: str, labels: Mapping[str, FieldValues], *, classes: int, ignored: int) -> None:
    """Raise `DatasetError` for a whole number that is neither one of `classes` classes, 0 to `classes` - 1, nor ignored by the loss."""
    for split, values in labels.items():
        if values.dtype.startswith("float") or not classes:
            continue  # float targets are shares of the classes; without a class axis, no target is a class
        known = values.values or [bound for bound in (values.low, values.high) if bound]
        if odd := next((each for each in known if each.value != ignored and not 0 <= each.value < classes), None):
            found = f"the targets of output {name!r} in split {split} include {odd.value} (the first is in {odd.name})"
            hint = (
                f"make `forward` return {odd.value + 1} scores for {name!r}, or publish numbers from 0 to {classes - 1}"
            )
            message = f"{found}; `forward` gives scores for {counted_classes(classes)}"
            raise DatasetError(message, hint=hint if odd.value > 0 else "drop those samples, or give them a class")


def counted_classes(classes: int) -> str:
    """Return a number of classes with their range."""
    return f"{classes} class{'' if classes == 1 else 'es'}, 0 to {classes - 1}"


def require_shares(name: str, labels: Mapping[str, FieldValues]) -> None:
    """Raise `DatasetError` for a target outside of 0 to 1, for which a binary cross entropy has no lower bound."""
    for split, values in labels.items():
        for bound in filter(None, (values.low, values.high)):
            if not 0 <= bound.value <= 1:
                found = f"the targets of output {name!r} in split {split} include {bound.value:g} (the first is in {bound.name})"
                raise DatasetError(f"{found}; its loss expects 0 to 1", hint="publish 0 or 1 for each label")


def _takes_classes(loss: object) -> bool:
    return isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or loss in (F.cross_entropy, F.nll_loss)


def _example(wanted: Mapping[str, Tensor]) -> str:
    return "{" + ", ".join(f'"{name}": ..' for name in wanted) + "}"


class SummedLoss(nn.Module):
    """The weighted sum of the losses of all outputs."""

    def __init__(self, outputs: Mapping[str, Output]) -> None:
        super().__init__()
        self.losses = {name: output.loss for name, output in outputs.items()}
        self.weights = {name: output.weight for name, output in outputs.items()}
        self.modules_of = nn.ModuleList([each for each in self.losses.values() if isinstance(each, nn.Module)])

    def forward(self, predicted: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        """Return the sum, `[]`."""
        parts = [self.weights[name] * loss(predicted[name], wanted[name]) for name, loss in self.losses.items()]
        return torch.stack(parts).sum()


class _OutputMetric(WrapperMetric):
    """A metric of one output."""

    def __init__(self, name: str, metric: Metric) -> None:
        super().__init__()
        self.name, self.metric = name, metric

    @property
    def undefined(self) -> str | None:
        return getattr(self.metric, "undefined", None)

    def update(self, predicted: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
        self.metric.update(predicted[self.name], wanted[self.name])

    def compute(self) -> Any:
        return self.metric.compute()

    def reset(self) -> None:
        self.metric.reset()
        super().reset()


class _OutputLoss(MeanLoss):
    """The mean loss of one output, without its weight."""

    def __init__(self, name: str, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.name, self.loss = name, loss

    def update(self, predicted: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:  # type: ignore[override]
        target = wanted[self.name]
        super().update(self.loss(predicted[self.name], target), loss_weight(self.loss, target))


@configured
def given_field(*, input_field: str) -> str:
    """Return the name of the input field."""
    return input_field
