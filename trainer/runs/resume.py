"""Going on with a run: whether it can be, what it was given, and whether what determines it is still the same.

Knows which runs can be gone on with, and how an attempt's ingredients are held against those of its run. Refuses to start anything, and to
let a change pass that nobody named: a run is one set of ingredients, whoever resumes it and wherever.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError, DocumentError, ResumeError, UnsafePathError, UsageError
from trainer.base.run_files import folder_of
from trainer.base.safe_folder import PARTIAL, run_root
from trainer.base.suggestions import did_you_mean
from trainer.runs.attempts import settings_now, worded
from trainer.runs.differences import Kind, candidates
from trainer.runs.image_claim import SEEN
from trainer.runs.record import Circumstances, Ingredients, Record, Status, read_record
from trainer.runs.run import (
    ATTEMPTS,
    CLAIM,
    RECORD,
    attempts,
    claim_of,
    close_dead,
    is_alive,
    load_record,
    record_of,
    recorded,
)
from trainer.runs.seal import read_claim
from trainer.settings.fields import Origin
from trainer.settings.origins import take_apart
from trainer.source.capture import ARCHIVE, COPY, unpack
from trainer.source.copy import verified

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from trainer.base.safe_folder import Root

LABEL: Final = "label=com.docker.compose.service=train"
"""By which the containers of trainings are found there, whoever named them."""
KINDS: Final = {
    "experiment": {Kind.EXPERIMENT},
    "settings": {Kind.SETTING},
    "source": {Kind.CODE},
    "dataset": {Kind.DATASET},
    "determinism": {Kind.DETERMINISM},
    "device": {Kind.DEVICE},
    "image": {Kind.LAYER, Kind.LOCK},
}
"""What can be allowed by name, and which differences each name covers."""


def require_resumable(run: Path, *, here: str, passed: Collection[int] = ()) -> Record:
    """Give the record of the run's last attempt that has one and is not `passed` over; close it, where its process was killed.

    Raises `ResumeError` for a run that is completed, or that somebody is at.
    """
    require_left(run)
    records: list[Record] = []
    known = recorded(run)
    for number in attempts(run):
        place = run / ATTEMPTS / str(number)
        if number in known and number not in passed:
            record = load_record(place / RECORD)
            running = record.outcome.status is Status.RUNNING
            records.append(close_dead(place, here=here) if running else record)
    if not records:
        raise ResumeError(f"run {run.name} has no record to go on from", hint="start it anew")
    if any(record.outcome.status is Status.COMPLETED for record in records):
        raise ResumeError(f"run {run.name} is completed: there is nothing to go on with", hint="start a new run")
    return records[-1]


def require_left(run: Path) -> None:
    """Raise `ResumeError` where somebody on this machine is at a run."""
    for number in attempts(run):
        if is_alive(place := run / ATTEMPTS / str(number)):
            said = f"attempt {number} of run {run.name} is alive{_where(place)}"
            raise ResumeError(
                said, hint=f"stop it (docker ps --filter {LABEL} names its container), or wait for its end"
            )


def as_it_was(run: Path, *, passed: Collection[int] = ()) -> Record:
    """Give the record of the last attempt, with the settings that it had: what was allowed for it holds until it is taken back."""
    records = [record_of(run, number) for number in recorded(run) if number not in passed]
    last = records[-1]
    ingredients = last.ingredients.model_copy(update={"settings": settings_now(records)})
    return last.model_copy(update={"ingredients": ingredients})


def last_record(run: Path, *, passed: Collection[int] = ()) -> Record:
    """Give the record of the last attempt that has one: an attempt that was killed as it began has none."""
    return record_of(run, max((number for number in recorded(run) if number not in passed), default=None))


def require_source(folder: Path, digest: str, *, anew: bool = False) -> None:
    """Raise `DigestMismatchError` unless the frozen source in a run's or a sweep's folder is the one of this digest.

    It is unpacked if it is not: of a run that was pulled, the archive alone is there. `anew` unpacks it in any case: code that is not the
    user's own may have added files to what was there.
    """
    bundle = verified(folder / ARCHIVE, digest=digest)
    with disk_faults(folder), folder_of(folder / ARCHIVE) as run:
        if anew:
            run.remove_tree(COPY)
        if run.stat(COPY) is None:
            aside = f".{COPY}.{os.getpid()}{PARTIAL}"
            unpack(bundle, run, aside)
            run.rename(aside, COPY)
    with folder_of(folder / ARCHIVE) as run:
        for file in bundle.files:
            if not _holds(run, f"{COPY}/{file.path}", file.data):
                said = f"{folder / COPY / file.path} is not as it was frozen"
                raise DigestMismatchError(said, hint=f"remove {folder / COPY}: it is unpacked again")


def _holds(folder: Root, path: str, data: bytes) -> bool:
    try:
        return folder.read(path, most=len(data)) == data
    except (FileNotFoundError, DocumentError, UnsafePathError):
        return False


def set_aside_what_was_seen(run: Path) -> None:
    """Keep what was seen of the last attempt's container with that attempt: it says nothing about the next one's."""
    known = attempts(run)
    with disk_faults(run), run_root(run) as folder:
        if known and folder.stat(SEEN) is not None:
            folder.rename(SEEN, f"{ATTEMPTS}/{known[-1]}/{SEEN}")


def kinds(words: str) -> list[str]:
    """Read the names after --allow. Raises `UsageError` for one that there is not."""
    named = [word.strip() for word in words.split(",") if word.strip()]
    for word in named:
        if word not in KINDS:
            raise UsageError(f"--allow {word}: expected {', '.join(KINDS)}", hint=did_you_mean(word, KINDS))
    return named


def held_to(
    record: Record, ingredients: Ingredients, circumstances: Circumstances, *, allowed: Collection[str]
) -> list[str]:
    """Say, a line each, how an attempt's ingredients differ from its run's.

    Raises `ResumeError` unless each kind was allowed; what was allowed for an earlier attempt and is the same again needs no second word.
    """
    made = record.model_copy(update={"ingredients": ingredients, "circumstances": circumstances})
    now = read_record(made.to_json(), where="this attempt")  # spelled as the other is: 0.0 is written 0
    covered = {kind for name in allowed for kind in KINDS[name]}
    found = [one for one in candidates(record, now) if one.ingredient]
    lines = [worded(one.kind, one.name, one.a, one.b) for one in found]
    known = set(record.circumstances.changed)
    refused = [line for one, line in zip(found, lines, strict=True) if one.kind not in covered and line not in known]
    if refused:
        names = {name for name, covers in KINDS.items() for one in found if one.kind in covers} | set(allowed)
        said = "\n  ".join([f"run {record.run} cannot go on: what determines it has changed", *refused])
        raise ResumeError(
            said, hint=f"go on as it was, or say that this may be: --allow {','.join(sorted(names))}; it is recorded"
        )
    return lines


def origins_of(record: Record, found: Mapping[str, Origin], *, command: Sequence[str]) -> dict[str, Origin]:
    """Where each value of an attempt that goes on came from: where the run's own did, but for what was given anew.

    What the run was given is handed on in a file, so `found` says `file` of it.
    """
    words = take_apart([word for word in command if word != "-h"][2:]).options
    anew = {name for word in words for name in (word, word.removeprefix("no_"))}
    known = {name: Origin(word) for name, word in record.circumstances.origins.items() if word in set(Origin)}
    return {
        name: origin if name in anew or origin is Origin.ENVIRONMENT else known.get(name, origin)
        for name, origin in found.items()
    }


def begun_by_another(run: Path, number: int) -> ResumeError:
    """Word that somebody else was first."""
    where = _where(run / ATTEMPTS / str(number))
    return ResumeError(f"attempt {number} of run {run.name} was begun{where} at this moment", hint="wait for its end")


def _where(attempt: Path) -> str:
    text = claim_of(attempt)
    return "" if text is None else f" on host {read_claim(text, where=str(attempt / CLAIM)).host}"
