"""Computation of a split's metrics: each is one number, or NaN with a reason.

A metric is NaN if it is undefined on the samples, whatever a net predicts (an area under the curve of one class, R2 of one sample). A
metric of this package stores the reason in its attribute `undefined`; a metric of torchmetrics raises or warns, and the message becomes the
reason.
"""

from __future__ import annotations

import re
import traceback
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from trainer.base.errors import ExperimentError
from trainer.training.tasks.outputs import described

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from torchmetrics import Metric, MetricCollection

_MEANINGLESS: Final = re.compile(r"No (positive|negative) samples in targets")
"""The warning of torchmetrics if it returns 0 for a curve that does not exist."""
_LIBRARY: Final = "/torchmetrics/"
_LONGEST: Final = 160
NO_NUMBER: Final = "the computed value is NaN"


def computed(metrics: MetricCollection) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the value of every metric and the reason for each NaN; raise `ExperimentError` if a metric is not one number."""
    found: dict[str, Any] = {}
    undefined: dict[str, str] = {}
    for name, metric in metrics.items(copy_state=False):
        value, reason = _computed(metric)
        for key, each in _parts(metrics, str(name), value, found):
            found[key] = _number(key, metric, each)
            if reason is None and bool(found[key].isnan()):
                reason = NO_NUMBER
            if reason is not None:
                found[key], undefined[key] = torch.full_like(found[key], torch.nan), reason
    return found, undefined


def require_numbers(metrics: MetricCollection, *given: Any) -> None:
    """Raise `ExperimentError` if a metric is not one number for the values `given`; it may be undefined for so few values."""
    tried = metrics.clone()
    with noting("the metrics of val", *given):
        tried.update(*given)
    try:
        found = {str(name): (metric, _computed(metric)[0]) for name, metric in tried.items(copy_state=False)}
    except Exception:  # noqa: BLE001 - the first validation raises the error, with all of its samples
        return
    for name, (metric, value) in found.items():
        for key, each in _parts(tried, name, value, ()):
            _number(key, metric, each)


def _parts(metrics: MetricCollection, name: str, value: Any, known: Container[str]) -> list[tuple[str, Any]]:
    """Return the values of a metric by name; a metric that returns a dict uses its own keys, as torchmetrics does."""
    if not isinstance(value, dict):
        return [(name, value)]
    own = {key: f"{metrics.prefix or ''}{key}" for key in value}
    return [(own[key] if own[key] not in known else f"{name}_{key}", each) for key, each in value.items()]


def _computed(metric: Metric) -> tuple[Any, str | None]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            value = metric.compute()
        except ValueError as fault:
            if _LIBRARY not in traceback.extract_tb(fault.__traceback__)[-1].filename:
                raise
            return torch.tensor(torch.nan), _sentence(fault)
    sentences = [_sentence(each.message) for each in warned]
    meaningless = next((line for line in sentences if _MEANINGLESS.search(line)), None)
    own: str | None = getattr(metric, "undefined", None)
    reason = own or (None if meaningless is None else meaningless.partition(",")[0])
    if reason is None and isinstance(value, Tensor) and value.numel() == 1 and bool(value.isnan()):
        reason = next(iter(sentences), NO_NUMBER)
    return value, reason


def _sentence(message: object) -> str:
    """Return the first sentence of a message, shortened.

    >>> _sentence("Needs at least two samples to calculate r2 score.")
    'Needs at least two samples to calculate r2 score'
    """
    return str(message).strip().partition("\n")[0].partition(". ")[0].removesuffix(".")[:_LONGEST]


def _number(name: str, metric: Metric, value: Any) -> Tensor:
    number = torch.as_tensor(value) if isinstance(value, Tensor | int | float) else None
    if number is None or number.numel() != 1 or number.is_complex():
        shown = type(value).__name__ if number is None else described(number)
        raise ExperimentError(
            f"metric {name} ({type(metric).__name__}) returns {shown}; expected one number",
            hint='average it (torchmetrics: average="macro"), or return each part as a separate metric',
        )
    single = number.detach().reshape(())
    return single if single.is_floating_point() else single.double()


@contextmanager
def noting(what: str, *given: Any) -> Iterator[None]:
    """Add a note to an exception in the block: `what`, and the given values."""
    try:
        yield
    except Exception as fault:
        shown = " and ".join(described(each) if isinstance(each, Tensor) else type(each).__name__ for each in given)
        fault.add_note(f"{what}, given {shown}" if shown else what)
        raise
