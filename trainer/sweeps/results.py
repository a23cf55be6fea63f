"""Combine the results of a sweep's runs: one row per combination of settings without the seed, the spread over seeds, and the best row.

Whether a lower or a higher value is better is given by the user or the experiment, or inferred from the name of the metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal

from trainer.comparison.noise import SEED, spread_of
from trainer.comparison.verdict import number_of
from trainer.reporting.drawing.frame import drawable
from trainer.runs.metric_text import is_score
from trainer.sweeps.folder import PointState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.runs.record import Record
    from trainer.sweeps.document import Sweep

Mode = Literal["min", "max"]
_FIRST: Final = ("val_loss", "val_error", "test_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """The points that differ only in the seed."""

    settings: dict[str, str]
    """The settings of the axes, without the seed."""
    numbers: list[int]
    """The indices of the row's points, from 0."""
    values: dict[str, list[float]]
    """The finite values of each metric in the finished runs."""
    finished: int

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds; `None` if a finished run has no finite value, since a mean without the run would be misleading."""
        found = self.values.get(metric, [])
        return fmean(found) if found and len(found) == self.finished else None

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation over seeds; `None` for fewer than two values."""
        found = self.values.get(metric, [])
        return spread_of(found).deviation if len(found) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResults:
    """The rows, the best first."""

    axes: list[str]
    seeds: int
    """The number of seeds; 0 if the seed is not an axis."""
    metrics: list[str]
    """The metrics; the rows are sorted by the first metric."""
    mode: Mode
    rows: list[SweepRow]
    point_states: list[PointState]

    @property
    def metric(self) -> str | None:
        """The metric by which the rows are sorted; `None` without a finished run."""
        return self.metrics[0] if self.metrics else None

    @property
    def best(self) -> SweepRow | None:
        """The best row by `metric`; `None` if no row has a mean."""
        first = self.rows[0] if self.rows else None
        return first if first and self.metric and first.mean(self.metric) is not None else None


def summarize_sweep(
    sweep: Sweep,
    point_states: Sequence[PointState],
    records: Mapping[int, Record],
    *,
    by: str | None = None,
    mode: Mode | None = None,
) -> SweepResults:
    """Combine the finished points. Rows are sorted by the metric `by` if a run has it, otherwise by the monitored or a common metric."""
    settings = [point.settings for point in sweep.points]
    axes = _differing(settings, sweep.asked.axes)
    shown = [name for name in axes if name != SEED]
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for number, each in enumerate(settings):
        groups.setdefault(tuple(each.get(name) for name in shown), []).append(number)
    done = {number: record for number, record in records.items() if point_states[number] is PointState.FINISHED}
    names = sorted({name for record in done.values() for name in record.outcome.metrics})
    first = by if by in names else _chosen(done, names)
    better = mode or (_mode(done, first) if first else "min")
    rows = [_row(dict(zip(shown, key, strict=True)), numbers, done) for key, numbers in groups.items()]
    sign = 1.0 if better == "min" else -1.0

    def place(row: SweepRow) -> tuple[bool, float]:
        value = row.mean(first) if first else None
        return value is None, sign * (value or 0.0)

    return SweepResults(
        axes=shown,
        seeds=len({each.get(SEED) for each in settings}) if SEED in axes else 0,
        metrics=([first] if first else []) + [name for name in names if name != first],
        mode=better,
        rows=sorted(rows, key=place),
        point_states=list(point_states),
    )


def _differing(settings: Sequence[Mapping[str, str]], typed: Sequence[str]) -> list[str]:
    """Return the settings that differ between points: first those from a file, then those from the command line in its order."""
    named = dict.fromkeys(name for each in settings for name in each)
    names = [*(name for name in named if name not in typed), *(name for name in typed if name in named)]
    return [name for name in names if len({each.get(name) for each in settings}) > 1]


def _row(settings: Mapping[str, str | None], numbers: list[int], records: Mapping[int, Record]) -> SweepRow:
    done = [records[number] for number in numbers if number in records]
    values: dict[str, list[float]] = {}
    for record in done:
        for name, text in record.outcome.metrics.items():
            value = number_of(text)
            if value is not None and drawable(value):
                values.setdefault(name, []).append(value)
    given = {name: "" if value is None else value for name, value in settings.items()}
    return SweepRow(settings=given, numbers=numbers, values=values, finished=len(done))


def _chosen(records: Mapping[int, Record], names: Sequence[str]) -> str | None:
    for record in records.values():
        monitored = record.ingredients.settings.get("monitor")
        if isinstance(monitored, str) and monitored in names:
            return monitored
    return next((name for name in _FIRST if name in names), names[0] if names else None)


def _mode(records: Mapping[int, Record], metric: str) -> Mode:
    for record in records.values():
        if record.ingredients.settings.get("monitor") == metric:
            return "max" if record.ingredients.settings.get("monitor_mode") == "max" else "min"
    return "max" if is_score(metric) else "min"
