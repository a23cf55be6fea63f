"""Measure the noise of an experiment: find existing runs, check that they differ only in their seeds, and combine their results.

Runs are identified by their records alone, so an interrupted measurement needs no state of its own. No run is started here.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from trainer.base.digest import canonical, digest_of_document
from trainer.base.errors import RepriseError, RunError
from trainer.base.safe_folder import Root
from trainer.comparison.noise import FOLDER, SEED, Noise
from trainer.comparison.retest import device_class
from trainer.comparison.saved_document import save_files
from trainer.comparison.verdict import number_of
from trainer.runs.differences import DifferenceKind, candidates
from trainer.runs.list import local_ids
from trainer.runs.record import Status
from trainer.runs.run import record_of
from trainer.settings.fields import GIVEN, LaunchSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trainer.runs.record import Record

_LAUNCH: Final = frozenset(LaunchSettings.__pydantic_fields__) - {"environment"}
_PLAIN: Final = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedRun:
    """A run to be trained; a setting that is not in `settings` has the default of the source."""

    experiment: str
    source: str
    settings: Mapping[str, Any]
    """The requested settings, including the seed; typed values are text."""
    typed: Mapping[str, Any] = field(default_factory=dict)
    """The settings in `settings` whose type is certain, as a record stores them."""

    def matches(self, record: Record) -> bool:
        """Return whether a run has all requested settings, however they were typed, and no other given setting."""
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
        """Return whether a recorded value is the requested value."""
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
    """Return the latest completed local run that matches `request`; `None` if there is none."""
    for name in reversed(local_ids(runs)):
        try:
            record = record_of(runs / name)
        except RepriseError:
            continue
        if record.outcome.status is Status.COMPLETED and request.matches(record):
            return record
    return None


def differing_runs(records: Mapping[int, Record]) -> dict[int, list[str]]:
    """Return the seeds whose runs differ from the latest run in more than the seed, with the names of the differences."""
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
    """Combine the runs of several seeds; a metric that is not finite in every run is left out.

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
    """Write the noise to the folder that `compare` reads: the latest per experiment, settings, environment and class of device."""
    about = digest_of_document([noise.experiment, noise.settings, noise.environment, noise.device])
    stem = _PLAIN.sub("-", PurePosixPath(noise.experiment).stem.lower()) or "experiment"
    name = f"{stem}-{about[7:19]}.json"
    return save_files(runs, FOLDER, {name: noise.to_json()}, opened=Root.at)
