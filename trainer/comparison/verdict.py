"""The verdict on two runs: the strongest level that their outcomes satisfy, and the unmet requirements of stronger levels.

The causes of a difference are not part of a verdict; `trainer.runs.differences` lists candidates.

| level | holds when | exit code |
|---|---|---|
| identical | final weights and all result metrics are bit-identical, even if ingredients differ | 0 |
| within tolerance | every result metric is within the tolerance that the experiment declares for it | 10 |
| within noise | every result metric is within the measured spread of seeds; never without a measurement | 11 |
| different | no other level holds | 20 |
| not comparable | a run did not complete, or the runs have no dataset or no result in common | 30 |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.comparison.ulp import FORMATS, array_distance
from trainer.runs.outputs import NO_OUTPUTS
from trainer.runs.record import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue

    from trainer.comparison.noise import Noise
    from trainer.runs.record import DatasetIngredient, Outcome, Record


class VerdictLevel(StrEnum):
    """The result of comparing two runs, the strongest first."""

    IDENTICAL = "identical"
    WITHIN_TOLERANCE = "within tolerance"
    WITHIN_NOISE = "within noise"
    DIFFERENT = "different"
    NOT_COMPARABLE = "not comparable"

    @property
    def code(self) -> int:
        """The exit code."""
        return EXIT_CODES[self]

    def reaches(self, other: VerdictLevel) -> bool:
        """Return whether this verdict is at least as strong as `other`.

        >>> VerdictLevel.IDENTICAL.reaches(VerdictLevel.WITHIN_NOISE)
        True
        """
        return list(VerdictLevel).index(self) <= list(VerdictLevel).index(other)


EXIT_CODES: Final = dict(zip(VerdictLevel, (0, 10, 11, 20, 30), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """A result metric of two runs. A value is `None` if the run does not have the metric."""

    name: str
    a: float | None
    b: float | None
    tolerance: float | None
    """The largest difference that the experiment tolerates; the smaller tolerance if the runs declare different tolerances."""
    noise: float | None
    """The largest difference that other seeds explain."""
    undefined: tuple[str | None, str | None] = (None, None)
    """The reason why the metric is undefined in A and in B; `None` if it is defined."""

    @property
    def equal(self) -> bool:
        """Whether both values exist and have equal bits; values that are undefined for different reasons are not equal."""
        if self.undefined[0] != self.undefined[1]:
            return False
        return self.a is not None and self.b is not None and struct.pack("<d", self.a) == struct.pack("<d", self.b)

    @property
    def agrees(self) -> bool:
        """Whether the metric is undefined in both runs for the same reason, so that no limit applies."""
        return self.undefined[0] is not None and self.equal

    @property
    def difference(self) -> float | None:
        """The difference `b - a`; `None` if a value is missing."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def ulp(self) -> int | None:
        """The distance in float64 ulps; `None` if a value is missing."""
        if self.a is None or self.b is None:
            return None
        return array_distance(struct.pack("<d", self.a), struct.pack("<d", self.b), FORMATS["F64"]).ulp

    def within(self, limit: float | None) -> bool:
        """Return whether the difference is at most `limit`; false if the limit or the difference is missing or NaN."""
        return limit is not None and self.difference is not None and abs(self.difference) <= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The level, its reason, and the unmet requirement of each stronger level, one sentence each."""

    level: VerdictLevel
    reason: str
    unmet: dict[VerdictLevel, str]
    metrics: tuple[ComparedMetric, ...]


def judge(a: Record, b: Record, *, noise: Noise | None = None) -> Verdict:
    """Compare the outcomes of two runs. `noise` is a measured spread that holds for one of the runs."""
    metrics = tuple(_compared_metrics(a.outcome, b.outcome, noise))
    if reason := _incomparable(a, b, metrics):
        return Verdict(level=VerdictLevel.NOT_COMPARABLE, reason=reason, unmet={}, metrics=metrics)
    unmet: dict[VerdictLevel, str] = {}
    requirements = {
        VerdictLevel.IDENTICAL: _not_identical(a.outcome, b.outcome, metrics),
        VerdictLevel.WITHIN_TOLERANCE: _beyond_tolerance(metrics),
        VerdictLevel.WITHIN_NOISE: _beyond_noise(metrics, noise),
    }
    if a.ingredients.kind == "script":
        # the noise of a script cannot be measured, since its seed is not a setting of Reprise
        del requirements[VerdictLevel.WITHIN_NOISE]
    what = "outputs" if a.outcome.outputs is not None else "final weights"
    for level, requirement in requirements.items():
        if requirement is None:
            reason = _REASONS[level].format(count=len(metrics), what=what)
            return Verdict(level=level, reason=reason, unmet=unmet, metrics=metrics)
        unmet[level] = requirement
    return Verdict(level=VerdictLevel.DIFFERENT, reason=unmet[VerdictLevel.IDENTICAL], unmet=unmet, metrics=metrics)


def number_of(value: JsonValue) -> float | None:
    """Return a recorded metric as a number (records store non-finite numbers as strings); `None` if it is not a number.

    >>> number_of("-Infinity"), number_of("-0"), number_of("high")
    (-inf, -0.0, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _compared_metrics(a: Outcome, b: Outcome, noise: Noise | None) -> Iterator[ComparedMetric]:
    for name in sorted({*a.metrics, *b.metrics}):
        declared = [side.tolerances[name] for side in (a, b) if name in side.tolerances]
        yield ComparedMetric(
            name=name,
            a=number_of(a.metrics.get(name)),
            b=number_of(b.metrics.get(name)),
            tolerance=min(declared) if len(declared) == 2 else None,  # noqa: PLR2004 - both runs declare a tolerance
            noise=noise.explains(name) if noise else None,
            undefined=(a.undefined.get(name), b.undefined.get(name)),
        )


def _incomparable(a: Record, b: Record, metrics: tuple[ComparedMetric, ...]) -> str | None:
    for record in (a, b):
        if record.outcome.status is not RunStatus.COMPLETED:
            why = f" ({record.outcome.reason})" if record.outcome.reason else ""
            return f"run {record.run} has no completed outcome: it is {record.outcome.status}{why}"
    one, other = (_measured_on(record) for record in (a, b))
    if (one or other) and not one.keys() & other.keys():
        return f"the runs were measured on different data: {', '.join(one) or 'none'} and {', '.join(other) or 'none'}"
    if any(metric.difference is not None for metric in metrics):
        return None
    outputs = {a.outcome.outputs, b.outcome.outputs}
    if outputs == {NO_OUTPUTS}:
        return "the runs have neither outputs that are compared nor result metrics"
    if None in outputs:
        return "the runs have no result metric in common"
    return None


def _measured_on(record: Record) -> dict[str, DatasetIngredient]:
    """Return the datasets on which results were measured: those for val and test, or the only dataset."""
    datasets = record.ingredients.datasets
    return {name: each for name, each in datasets.items() if not each.roles or {"val", "test"} & {*each.roles}}


def _not_identical(a: Outcome, b: Outcome, metrics: tuple[ComparedMetric, ...]) -> str | None:
    if a.outputs is not None and b.outputs is not None:
        what, differs = "outputs", a.outputs != b.outputs
    elif a.weights is None or b.weights is None:
        return "a record has no digest of the final weights"
    else:
        what, differs = "final weights", a.weights != b.weights
    unequal = sum(not metric.equal for metric in metrics)
    results = [f"the {what} differ"] if differs else []
    differing = [f"result metrics differ ({unequal} of {len(metrics)})"] if unequal else []
    return " and ".join([*results, *differing]) or None


def _beyond_tolerance(metrics: tuple[ComparedMetric, ...]) -> str | None:
    limits = {metric: metric.tolerance for metric in metrics if not metric.agrees}
    if undeclared := [metric.name for metric, limit in limits.items() if limit is None]:
        return f"the experiment declares no tolerance for {', '.join(undeclared)}"
    return _beyond(limits, "tolerance")


def _beyond_noise(metrics: tuple[ComparedMetric, ...], noise: Noise | None) -> str | None:
    if noise is None:
        return _UNMEASURED
    limits = {metric: metric.noise for metric in metrics if not metric.agrees}
    if unmeasured := [metric.name for metric, limit in limits.items() if limit is None]:
        return f"the measured seed noise does not cover {', '.join(unmeasured)}"
    return _beyond(limits, f"what {len(noise.seeds)} seeds explain")


def _beyond(limits: dict[ComparedMetric, float | None], what: str) -> str | None:
    sentences = (
        f"{metric.name} is missing in a run"
        if metric.difference is None
        else f"{metric.name} is {abs(metric.difference):.6g} apart, {what} is {limit:.6g}"
        for metric, limit in limits.items()
        if not metric.within(limit)
    )
    return "; ".join(sentences) or None


_UNMEASURED: Final = (
    "no spread of seeds was measured for this experiment with these settings, in this environment, on this device:"
    " `reprise noise` measures one"
)
_REASONS: Final = {
    VerdictLevel.IDENTICAL: "{what} and all result metrics ({count}) are equal bit for bit",
    VerdictLevel.WITHIN_TOLERANCE: "every result metric ({count}) is within the tolerance that the experiment declares",
    VerdictLevel.WITHIN_NOISE: "every result metric ({count}) is within what the measured seeds explain",
}
