"""The verdict on two runs: the strongest rung (verdict level) that their outcomes satisfy, and the unmet requirements of stronger rungs.

The causes of a difference are not part of a verdict; `trainer.runs.differences` lists candidates.

| rung | holds when | exit code |
|---|---|---|
| identical | final weights and all result metrics equal bit for bit, whatever the ingredients | 0 |
| within tolerance | every result metric within the tolerance that the experiment declares for it | 10 |
| within noise | every result metric within the measured spread of seeds; never claimed without one | 11 |
| different | none of these | 20 |
| not comparable | a side has no completed outcome, or they have no metric of one dataset in common | 30 |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.comparison.ulp import FORMATS, array_distance
from trainer.runs.outputs import NO_OUTPUTS
from trainer.runs.record import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue

    from trainer.comparison.noise import Noise
    from trainer.runs.record import DatasetIngredient, Outcome, Record


class Rung(StrEnum):
    """A verdict level: the result of comparing two runs, the strongest first."""

    IDENTICAL = "identical"
    WITHIN_TOLERANCE = "within tolerance"
    WITHIN_NOISE = "within noise"
    DIFFERENT = "different"
    NOT_COMPARABLE = "not comparable"

    @property
    def code(self) -> int:
        """The exit code."""
        return EXIT_CODES[self]

    def reaches(self, other: Rung) -> bool:
        """Return whether this verdict is at least as strong as `other`.

        >>> Rung.IDENTICAL.reaches(Rung.WITHIN_NOISE)
        True
        """
        return list(Rung).index(self) <= list(Rung).index(other)


EXIT_CODES: Final = dict(zip(Rung, (0, 10, 11, 20, 30), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One result metric of both runs; a value is `None` if a run does not have the metric."""

    name: str
    a: float | None
    b: float | None
    tolerance: float | None
    """The largest difference that the experiment tolerates; the smaller tolerance if the runs declare different tolerances."""
    noise: float | None
    """The largest difference that other seeds explain."""
    undefined: tuple[str | None, str | None] = (None, None)
    """The reasons why the metric is undefined in A and in B, if it is."""

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
        """B - A."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def ulp(self) -> int | None:
        """The distance in float64 ulps."""
        if self.a is None or self.b is None:
            return None
        return array_distance(struct.pack("<d", self.a), struct.pack("<d", self.b), FORMATS["F64"]).ulp

    def within(self, limit: float | None) -> bool:
        """Return whether the difference is at most `limit`; false if the limit or the difference is missing or NaN."""
        return limit is not None and self.difference is not None and abs(self.difference) <= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The rung, its reason, and the unmet requirement of each stronger rung, one sentence each."""

    rung: Rung
    reason: str
    unmet: dict[Rung, str]
    figures: tuple[Figure, ...]


def judge(a: Record, b: Record, *, noise: Noise | None = None) -> Verdict:
    """Compare two outcomes. `noise` is a measured spread that holds for one of them."""
    figures = tuple(_figures(a.outcome, b.outcome, noise))
    if reason := _incomparable(a, b, figures):
        return Verdict(rung=Rung.NOT_COMPARABLE, reason=reason, unmet={}, figures=figures)
    unmet: dict[Rung, str] = {}
    requirements = {
        Rung.IDENTICAL: _not_identical(a.outcome, b.outcome, figures),
        Rung.WITHIN_TOLERANCE: _beyond_tolerance(figures),
        Rung.WITHIN_NOISE: _beyond_noise(figures, noise),
    }
    if a.ingredients.kind == "script":
        del requirements[Rung.WITHIN_NOISE]  # a script has no seed that other commands know
    what = "outputs" if a.outcome.outputs is not None else "final weights"
    for rung, requirement in requirements.items():
        if requirement is None:
            reason = _REASONS[rung].format(count=len(figures), what=what)
            return Verdict(rung=rung, reason=reason, unmet=unmet, figures=figures)
        unmet[rung] = requirement
    return Verdict(rung=Rung.DIFFERENT, reason=unmet[Rung.IDENTICAL], unmet=unmet, figures=figures)


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


def _figures(a: Outcome, b: Outcome, noise: Noise | None) -> Iterator[Figure]:
    for name in sorted({*a.metrics, *b.metrics}):
        declared = [side.tolerances[name] for side in (a, b) if name in side.tolerances]
        yield Figure(
            name=name,
            a=number_of(a.metrics.get(name)),
            b=number_of(b.metrics.get(name)),
            tolerance=min(declared) if len(declared) == 2 else None,  # noqa: PLR2004 - both sides
            noise=noise.explains(name) if noise else None,
            undefined=(a.undefined.get(name), b.undefined.get(name)),
        )


def _incomparable(a: Record, b: Record, figures: tuple[Figure, ...]) -> str | None:
    for record in (a, b):
        if record.outcome.status is not Status.COMPLETED:
            why = f" ({record.outcome.reason})" if record.outcome.reason else ""
            return f"run {record.run} has no completed outcome: it is {record.outcome.status}{why}"
    one, other = (_measured_on(record) for record in (a, b))
    if (one or other) and not one.keys() & other.keys():
        return f"they were measured on other data: {', '.join(one) or 'none'} and {', '.join(other) or 'none'}"
    if any(figure.difference is not None for figure in figures):
        return None
    outputs = {a.outcome.outputs, b.outcome.outputs}
    if outputs == {NO_OUTPUTS}:
        return "they have neither outputs that are compared nor result metrics"
    if None in outputs:
        return "they have no result metric in common"
    return None


def _measured_on(record: Record) -> dict[str, DatasetIngredient]:
    """Return the datasets on which results were measured: of val and test, if there are several."""
    datasets = record.ingredients.datasets
    return {name: each for name, each in datasets.items() if not each.roles or {"val", "test"} & {*each.roles}}


def _not_identical(a: Outcome, b: Outcome, figures: tuple[Figure, ...]) -> str | None:
    if a.outputs is not None and b.outputs is not None:
        what, differs = "outputs", a.outputs != b.outputs
    elif a.weights is None or b.weights is None:
        return "the weights of a run are not known by digest"
    else:
        what, differs = "final weights", a.weights != b.weights
    unequal = sum(not figure.equal for figure in figures)
    results = [f"the {what} differ"] if differs else []
    metrics = [f"result metrics differ ({unequal} of {len(figures)})"] if unequal else []
    return " and ".join([*results, *metrics]) or None


def _beyond_tolerance(figures: tuple[Figure, ...]) -> str | None:
    limits = {figure: figure.tolerance for figure in figures if not figure.agrees}
    if undeclared := [figure.name for figure, limit in limits.items() if limit is None]:
        return f"the experiment declares no tolerance for {', '.join(undeclared)}"
    return _beyond(limits, "tolerance")


def _beyond_noise(figures: tuple[Figure, ...], noise: Noise | None) -> str | None:
    if noise is None:
        return _UNMEASURED
    limits = {figure: figure.noise for figure in figures if not figure.agrees}
    if unmeasured := [figure.name for figure, limit in limits.items() if limit is None]:
        return f"the measured seed noise does not cover {', '.join(unmeasured)}"
    return _beyond(limits, f"what {len(noise.seeds)} seeds explain")


def _beyond(limits: dict[Figure, float | None], what: str) -> str | None:
    sentences = (
        f"{figure.name} is absent on one side"
        if figure.difference is None
        else f"{figure.name} is {abs(figure.difference):.6g} apart, {what} is {limit:.6g}"
        for figure, limit in limits.items()
        if not figure.within(limit)
    )
    return "; ".join(sentences) or None


_UNMEASURED: Final = (
    "no spread of seeds was measured for this experiment with these settings, in this environment, on this device:"
    " `reprise noise` measures one"
)
_REASONS: Final = {
    Rung.IDENTICAL: "{what} and all result metrics ({count}) are equal bit for bit",
    Rung.WITHIN_TOLERANCE: "every result metric ({count}) is within the tolerance that the experiment declares",
    Rung.WITHIN_NOISE: "every result metric ({count}) is within what the measured seeds explain",
}
