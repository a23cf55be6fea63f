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

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical, digest_of_document
from trainer.base.errors import RepriseError, RunError
from trainer.base.safe_folder import Root
from trainer.comparison.noise import FOLDER, SEED, Noise
from trainer.comparison.retest import device_class
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
class Wanted:
    """A run to be made; a setting that is not in `settings` has the default of the source."""

    experiment: str
    source: str
    settings: Mapping[str, Any]
    """The requested settings, including the seed; typed values are text."""
    typed: Mapping[str, Any] = field(default_factory=dict)
    """The settings in `settings` whose type is certain, as a record stores them."""

    def is_met_by(self, record: Record) -> bool:
        """Return whether a run has all requested settings, however they were typed, and no other given setting."""
        values, origins = record.circumstances.execution | record.ingredients.settings, record.circumstances.origins
        bearing = (values.keys() & _LAUNCH) | record.ingredients.settings.keys()
        given = {name for name in bearing if origins.get(name) in GIVEN}
        return (
            (record.ingredients.experiment, record.ingredients.source) == (self.experiment, self.source)
            and not record.circumstances.changed
            and all(name in values for name in self.settings)
            and given <= self.settings.keys()
            and all(self._means(name, values[name]) for name in self.settings if name in bearing)
        )

    def _means(self, name: str, value: object) -> bool:
        """Return whether a recorded value is the requested value."""
        if name in self.typed:
            return canonical(self.typed[name]) == canonical(value)
        return means(self.settings[name], value)


def means(asked: object, value: object) -> bool:
    """Return whether a requested value, possibly text, equals a recorded value.

    >>> means("1e-3", 0.001), means("none", None), means("true", True), means("2", 3), means(True, 1)
    (True, True, True, False, False)
    """
    if not isinstance(asked, str) and isinstance(asked, bool) != isinstance(value, bool):
        return False
    if asked == value or str(asked) == value:
        return True
    if asked in ("none", "null"):
        return value is None
    with suppress(ValueError, TypeError, RecursionError):
        return bool(json.loads(str(asked)) == value)
    with suppress(ValueError):
        return isinstance(value, float) and float(str(asked)) == value
    return False


def made_before(wanted: Wanted, runs: Path) -> Record | None:
    """Return the latest completed local run that matches `wanted`; `None` if there is none."""
    for name in reversed(local_ids(runs)):
        try:
            record = record_of(runs / name)
        except RepriseError:
            continue
        if record.outcome.status is Status.COMPLETED and wanted.is_met_by(record):
            return record
    return None


def unlike(records: Mapping[int, Record]) -> dict[int, list[str]]:
    """Return the seeds whose runs differ from the latest run in more than the seed, with the names of the differences."""
    latest = max(records.values(), key=lambda record: record.circumstances.timing.started)
    found = {seed: list(_differing(record, latest)) for seed, record in records.items()}
    return {seed: names for seed, names in found.items() if names}


def _differing(one: Record, other: Record) -> Iterator[str]:
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
    values = {name: [number_of(records[seed].outcome.metrics.get(name)) for seed in seeds] for name in _names(records)}
    metrics = {
        name: [value for value in each if value is not None and isfinite(value)]
        for name, each in sorted(values.items())
    }
    whole = {name: each for name, each in metrics.items() if len(each) == len(seeds)}
    if not whole:
        raise RunError("the runs have no finite result metric in common", hint="reprise runs show RUN")
    return Noise(
        experiment=first.ingredients.experiment,
        settings={name: value for name, value in first.ingredients.settings.items() if name != SEED},
        environment=first.circumstances.image.environment,
        device=device_class(first),
        seeds=seeds,
        metrics=whole,
        runs=[records[seed].run for seed in seeds],
    )


def keep_noise(noise: Noise, *, runs: Path) -> Path:
    """Write the noise to the folder that `compare` reads: the latest per experiment, settings, environment and class of device."""
    about = digest_of_document([noise.experiment, noise.settings, noise.environment, noise.device])
    stem = _PLAIN.sub("-", PurePosixPath(noise.experiment).stem.lower()) or "experiment"
    name = f"{stem}-{about[7:19]}.json"
    with disk_faults(runs / FOLDER), Root.at(runs) as root, root.below(FOLDER, make=True) as place:
        root.give(FOLDER)
        place.write_whole(name, canonical(noise.model_dump(mode="json")) + b"\n")
        place.give(name)
    return runs / FOLDER / name


def _names(records: Mapping[int, Record]) -> set[str]:
    return set().union(*(record.outcome.metrics for record in records.values()))
