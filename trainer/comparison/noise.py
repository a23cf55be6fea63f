"""The noise of an experiment: the differences between results if only the seed differs. Format `reprise.noise/1`.

A measured spread is valid only for its settings, environment and class of device. The measured runs are found by their records, so an
interrupted measurement needs no additional state. This module starts no runs.

The results of two seeds differ by d. With the values of n seeds and their standard deviation s, |d| <= t(n - 1) * s * sqrt(2) for 19 of 20
pairs of seeds, if t is Student's 97.5 % quantile and the values are approximately normal. A larger difference is not noise, or belongs to
the twentieth pair. `seeds_needed` is the number of runs that a two-sample t-test needs to detect a gain.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil, isfinite, sqrt
from pathlib import PurePosixPath
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import Field, FiniteFloat, JsonValue, model_validator

from trainer.base.digest import canonical, digest_of_document
from trainer.base.errors import RepriseError, RunError
from trainer.base.plain_text import LARGEST
from trainer.base.safe_folder import Root
from trainer.comparison.retest import device_class
from trainer.comparison.saved_document import SavedDocument, read_files, save_files
from trainer.comparison.verdict import number_of
from trainer.runs.differences import DifferenceKind, candidates
from trainer.runs.list import local_ids
from trainer.runs.record import RunStatus
from trainer.runs.run import record_of
from trainer.settings.fields import GIVEN, LaunchSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trainer.runs.record import Record

FORMAT: Final = "reprise.noise/1"
FOLDER: Final = "noise"
"""The name of the folder of measurements in the runs folder: `runs/noise/<any name>.json`."""
SEED: Final = "seed"
FEWEST: Final = 3
"""The minimum number of seeds for a useful spread: with two seeds, t is 12.7."""
LEVEL: Final = 0.05
"""The two-sided significance level: the probability of reporting a difference if there is none."""
POWER: Final = 0.8
"""The probability of detecting a real gain."""
_T: Final = {
    2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179, 15: 2.131, 20: 2.086,
    30: 2.042, 60: 2.000, 120: 1.980, 1000: 1.962,
}  # fmt: skip
"""Student's t, two-sided 95 %, by degrees of freedom; between two entries, the lower entry is used, which gives the wider interval."""


_LAUNCH: Final = frozenset(LaunchSettings.__pydantic_fields__) - {"environment"}
_PLAIN: Final = re.compile(r"[^a-z0-9_-]+")


class Noise(SavedDocument):
    """A measurement: the results of the same run with several seeds."""

    format: Literal["reprise.noise/1"] = FORMAT
    experiment: str
    settings: dict[str, JsonValue]
    """The values of the settings that affect the result, without the seed."""
    environment: str | None
    """The environment's name; `None` if the runs used no environment."""
    device: str
    """The class of device, from `device_class`."""
    seeds: list[int] = Field(min_length=FEWEST)
    metrics: dict[str, list[FiniteFloat]]
    """The values of each result metric, in the order of `seeds`."""
    runs: list[str] = []
    """The IDs of the measured runs, in the order of `seeds`; empty if the runs are not kept."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if SEED in self.settings:
            raise ValueError("the runs differ only in their seeds, so the seed cannot be a fixed setting")
        uneven = [name for name, values in self.metrics.items() if len(values) != len(self.seeds)]
        if uneven:
            raise ValueError(f"{uneven[0]} has {len(self.metrics[uneven[0]])} values for {len(self.seeds)} seeds")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is listed twice")
        return self

    def explains(self, metric: str) -> float | None:
        """Return the largest difference of `metric` that the seed explains; `None` if the metric was not measured."""
        values = self.metrics.get(metric)
        return None if values is None else seed_difference(values)

    def holds_for(self, record: Record) -> bool:
        """Return whether the run used this experiment, these settings, this environment and this class of device."""
        settings = {name: value for name, value in record.ingredients.settings.items() if name != SEED}
        conditions = (record.ingredients.experiment, record.circumstances.image.environment, device_class(record))
        return conditions == (self.experiment, self.environment, self.device) and settings == self.settings


def student(freedom: int) -> float:
    """Return Student's t, two-sided 95 %.

    >>> student(2), student(11), student(10_000)
    (4.303, 2.228, 1.962)
    """
    entries = sorted(_T)
    return _T[entries[bisect_right(entries, max(freedom, entries[0])) - 1]]


def seed_difference(values: Sequence[float]) -> float:
    """Return the largest difference that the seed explains in 19 of 20 pairs of results; `values` are the results of several seeds."""
    return student(len(values) - 1) * stdev(values) * sqrt(2)


def measured_noise(folder: Path, records: Iterable[Record]) -> Noise | None:
    """Return the measurement with the most seeds that holds for one of `records`. Raise `DocumentError` if a file is invalid."""
    runs = list(records)
    known = read_files(folder.parent, folder.name, Noise.read, most=LARGEST, opened=Root.at)
    fitting = [noise for noise in known if any(noise.holds_for(record) for record in runs)]
    return max(fitting, key=lambda noise: len(noise.seeds), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedRun:
    """A run to train. Settings that are not in `settings` have the defaults of the source."""

    experiment: str
    source: str
    settings: Mapping[str, Any]
    """The requested settings, including the seed; a value from the command line is text."""
    typed: Mapping[str, Any] = field(default_factory=dict)
    """The values in `settings` whose type is certain, in the form in which a record stores them."""

    def matches(self, record: Record) -> bool:
        """Return whether a run has all requested settings, in any notation, and no other setting that a user gave."""
        values, origins = record.circumstances.execution | record.ingredients.settings, record.circumstances.origins
        relevant = (values.keys() & _LAUNCH) | record.ingredients.settings.keys()
        chosen = {name for name in relevant if origins.get(name) in GIVEN}
        return (
            (record.ingredients.experiment, record.ingredients.source) == (self.experiment, self.source)
            and not record.circumstances.changed
            and all(name in values for name in self.settings)
            and chosen <= self.settings.keys()
            and all(self._equals(name, values[name]) for name in self.settings if name in relevant)
        )

    def _equals(self, name: str, value: object) -> bool:
        if name in self.typed:
            return canonical(self.typed[name]) == canonical(value)
        return is_same_value(self.settings[name], value)


def is_same_value(requested: object, value: object) -> bool:
    """Return whether a requested value, possibly text, equals a recorded value.

    >>> is_same_value("1e-3", 0.001), is_same_value("none", None), is_same_value("true", True)
    (True, True, True)
    >>> is_same_value("2", 3), is_same_value(True, 1)
    (False, False)
    """
    if not isinstance(requested, str) and isinstance(requested, bool) != isinstance(value, bool):
        return False
    if requested == value or str(requested) == value:
        return True
    if requested in ("none", "null"):
        return value is None
    with suppress(ValueError, TypeError, RecursionError):
        return bool(json.loads(str(requested)) == value)
    with suppress(ValueError):
        return isinstance(value, float) and float(str(requested)) == value
    return False


def find_completed_run(request: RequestedRun, runs: Path) -> Record | None:
    """Return the record of the latest completed local run that matches `request`; `None` if no run matches."""
    for name in reversed(local_ids(runs)):
        try:
            record = record_of(runs / name)
        except RepriseError:
            continue
        if record.outcome.status is RunStatus.COMPLETED and request.matches(record):
            return record
    return None


def differing_runs(records: Mapping[int, Record]) -> dict[int, list[str]]:
    """Return, for each seed whose run differs from the latest run in more than the seed, the names of the differences."""
    latest = max(records.values(), key=lambda record: record.circumstances.timing.started)
    differences = {seed: list(_differences(record, latest)) for seed, record in records.items()}
    return {seed: names for seed, names in differences.items() if names}


def _differences(one: Record, other: Record) -> Iterator[str]:
    for candidate in candidates(one, other):
        if candidate.ingredient and (candidate.kind, candidate.name) != (DifferenceKind.SETTING, SEED):
            yield candidate.title
    if one.circumstances.image.environment != other.circumstances.image.environment:
        yield "environment"
    if device_class(one) != device_class(other):
        yield "device"


def noise_of(records: Mapping[int, Record]) -> Noise:
    """Combine the records of several seeds; a metric that is not finite in every run is omitted.

    Raise `RunError` if the runs have no metric in common.
    """
    seeds = sorted(records)
    first = records[seeds[0]]
    metrics: dict[str, list[float]] = {}
    for name in sorted(first.outcome.metrics):
        numbers = [number_of(records[seed].outcome.metrics.get(name)) for seed in seeds]
        finite = [number for number in numbers if number is not None and isfinite(number)]
        if len(finite) == len(seeds):
            metrics[name] = finite
    if not metrics:
        raise RunError("the runs have no finite result metric in common", hint="reprise runs show RUN")
    return Noise(
        experiment=first.ingredients.experiment,
        settings={name: value for name, value in first.ingredients.settings.items() if name != SEED},
        environment=first.circumstances.image.environment,
        device=device_class(first),
        seeds=seeds,
        metrics=metrics,
        runs=[records[seed].run for seed in seeds],
    )


def save_noise(noise: Noise, *, runs: Path) -> Path:
    """Write the noise to the folder that `measured_noise` reads; replace an earlier measurement under the same conditions."""
    about = digest_of_document([noise.experiment, noise.settings, noise.environment, noise.device])
    stem = _PLAIN.sub("-", PurePosixPath(noise.experiment).stem.lower()) or "experiment"
    name = f"{stem}-{about[7:19]}.json"
    return save_files(runs, FOLDER, {name: noise.to_json()}, opened=Root.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Summary statistics of the values of several seeds."""

    mean: float
    deviation: float
    """The standard deviation of a single run."""
    lowest: float
    highest: float


def spread_of(values: Sequence[float]) -> Spread:
    """Summarize two or more values.

    >>> spread_of([1.0, 2.0, 3.0])
    Spread(mean=2.0, deviation=1.0, lowest=1.0, highest=3.0)
    """
    return Spread(mean=fmean(values), deviation=stdev(values), lowest=min(values), highest=max(values))


def seeds_needed(gain: float, deviation: float, *, level: float = LEVEL, power: float = POWER) -> int:
    """Return the number of seeds per variant for a two-sided t-test with equal deviations to detect a true `gain` of means.

    n = 2 (z(1 - level/2) + z(power))^2 (deviation / gain)^2 + z(1 - level/2)^2 / 4 for each variant, rounded up: the sample size for a
    known deviation, with a correction for an estimated deviation. W. C. Guenther, Sample size formulas for normal theory t tests, The
    American Statistician 35 (1981), 243-244. For these levels it agrees with the noncentral t to one seed from n = 4 on.

    >>> [seeds_needed(size, 1.0) for size in (0.2, 0.5, 0.8, 1.0)]
    [394, 64, 26, 17]
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / 2)
    count = 2 * (z + normal.inv_cdf(power)) ** 2 * (deviation / gain) ** 2
    return max(2, ceil(count + z**2 / 4)) if deviation else 2
