"""The result of training a net or running a script. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.data.inspection import Inspection
    from trainer.runs.record import EvaluatedWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The results of any training run for its record; `None` for an unknown value."""

    metrics: dict[str, float]
    undefined: dict[str, str] = field(default_factory=dict)
    """The reason for each metric that is NaN."""
    telemetry: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    """Largest absolute difference of each metric that is within tolerance, as the experiment declares."""
    steps: int | None = None
    evaluated: EvaluatedWeights | None = None
    weights: str | None = None
    """The digest of the weights' table in `tensors.json`."""
    outputs: str | None = None
    """The digest of a script's outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Result):
    """The result of training a net."""

    steps: int
    evaluated: EvaluatedWeights
    weights: str
    inspection: Inspection | None = None
    """The inspection of the dataset before the first step."""
