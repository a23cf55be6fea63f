"""Measuring the noise of an experiment: which runs of it are already made, whether they are runs of one thing, what they say together.

Knows that runs are told apart by their records alone, so that nothing has to be remembered when a measurement is stopped in the middle.
Refuses to start a run.
"""

from __future__ import annotations

import re
from math import isfinite
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from trainer.actions.list_runs import local_ids
from trainer.actions.run import record_of
from trainer.candidates import Kind, candidates
from trainer.digest import canonical, digest_of_document
from trainer.errors import RepriseError, RunError
from trainer.host.atomic import give_like, make_folder, write_whole
from trainer.noise import FOLDER, SEED, Noise
from trainer.record import Status
from trainer.retest import device_class
from trainer.verdict import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trainer.record import Record

_PLAIN: Final = re.compile(r"[^a-z0-9_-]+")


def made_before(command: Sequence[str], runs: Path, *, source: str) -> Record | None:
    """The latest run here that was typed like this, from this source, and completed; `None` where there is none."""
    for name in reversed(local_ids(runs)):
        try:
            record = record_of(runs / name)
        except RepriseError:
            continue
        same = record.circumstances.command == [*command] and record.ingredients.source == source
        if same and record.outcome.status is Status.COMPLETED:
            return record
    return None


def unlike(records: Mapping[int, Record]) -> dict[int, list[str]]:
    """The seeds whose runs are not of one thing with the latest run, and what of each differs, besides the seed."""
    latest = max(records.values(), key=lambda record: record.circumstances.timing.started)
    found = {seed: list(_differing(record, latest)) for seed, record in records.items()}
    return {seed: names for seed, names in found.items() if names}


def _differing(one: Record, other: Record) -> Iterator[str]:
    for candidate in candidates(one, other):
        if candidate.ingredient and (candidate.kind, candidate.name) != (Kind.SETTING, SEED):
            yield f"{candidate.kind} {candidate.name}"
    if one.circumstances.image.environment != other.circumstances.image.environment:
        yield "environment"
    if device_class(one) != device_class(other):
        yield "device"


def noise_of(records: Mapping[int, Record]) -> Noise:
    """What the runs of several seeds say together; a metric that is no finite number in each of them is left out.

    Raises `RunError` where they have no metric in common.
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
    """Write it where `same` looks: one file for each experiment, settings, environment and class of device, the last one measured."""
    about = digest_of_document([noise.experiment, noise.settings, noise.environment, noise.device])
    stem = _PLAIN.sub("-", PurePosixPath(noise.experiment).stem.lower()) or "experiment"
    path = runs / FOLDER / f"{stem}-{about[7:19]}.json"
    make_folder(path.parent)
    write_whole(path, canonical(noise.model_dump(mode="json")) + b"\n")
    give_like(path)
    return path


def _names(records: Mapping[int, Record]) -> set[str]:
    return set().union(*(record.outcome.metrics for record in records.values()))
