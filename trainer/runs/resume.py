"""Resume a run: check whether it can be resumed, find its settings, and check that its ingredients are unchanged.

An attempt must have the ingredients of its run, except for the kinds of changes that the user allows by name.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError, DocumentError, ResumeError, UnsafePathError, UsageError
from trainer.base.run_files import folder_of
from trainer.base.safe_folder import PARTIAL, run_root
from trainer.base.suggestions import did_you_mean
from trainer.runs.attempts import change_line, current_settings
from trainer.runs.differences import DifferenceKind, candidates
from trainer.runs.image_claim import OBSERVED_IMAGE
from trainer.runs.open_run import claim_of, close_killed, is_alive
from trainer.runs.record import Circumstances, Ingredients, Record, RunStatus, read_record
from trainer.runs.run import (
    ATTEMPTS,
    CLAIM,
    RECORD,
    attempts,
    load_record,
    pulled_snapshots,
    record_of,
    recorded_attempts,
)
from trainer.runs.seal import read_claim
from trainer.settings.fields import Origin
from trainer.settings.origins import parse_options
from trainer.source.capture import ARCHIVE, COPY, unpack
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from trainer.base.safe_folder import Root

LABEL: Final = "label=com.docker.compose.service=train"
"""The label of training containers."""
KINDS: Final = {
    "experiment": {DifferenceKind.EXPERIMENT},
    "settings": {DifferenceKind.SETTING},
    "source": {DifferenceKind.CODE},
    "dataset": {DifferenceKind.DATASET, DifferenceKind.INITIAL},
    "determinism": {DifferenceKind.DETERMINISM},
    "device": {DifferenceKind.DEVICE},
    "image": {DifferenceKind.LAYER, DifferenceKind.LOCK},
}
"""The names that --allow accepts, each with the kinds of differences that it allows."""


def require_resumable(run: Path, *, host: str, passed: Collection[int] = ()) -> Record:
    """Return the record of the run's last recorded attempt that is not in `passed`, and close the records of killed processes.

    Raise `ResumeError` if the run is completed or still running, ran a script, or has no record; `RunError` if an attempt that was not
    closed was started on another host.
    """
    require_not_running(run)
    records: list[Record] = []
    recorded, elsewhere = recorded_attempts(run), pulled_snapshots(run)
    for number in attempts(run):
        attempt = run / ATTEMPTS / str(number)
        if number in recorded and number not in passed:
            record = load_record(attempt / RECORD)
            running = record.outcome.status is RunStatus.RUNNING and number not in elsewhere
            records.append(close_killed(attempt, host=host) if running else record)
    if not records:
        raise ResumeError(f"run {run.name} has no record to resume from", hint="start a new run")
    if records[-1].ingredients.kind == "script":
        message = f"run {run.name} ran a script, which has its own loop: it cannot be resumed"
        raise ResumeError(message, hint=f"start it again: {shlex.join(records[-1].circumstances.command)}")
    if any(record.outcome.status is RunStatus.COMPLETED for record in records):
        raise ResumeError(f"run {run.name} is completed and cannot be resumed", hint="start a new run")
    return records[-1]


def close_lost(run: Path) -> list[Record]:
    """Close the records of attempts whose processes ended without closing them, on any host, and return these records.

    Only for a caller that is certain that no process of the run is alive, such as a job that its scheduler has restarted. Raise `RunError`
    if a process is alive on this host.
    """
    closed = []
    elsewhere = pulled_snapshots(run)
    for number in recorded_attempts(run):
        attempt = run / ATTEMPTS / str(number)
        record = load_record(attempt / RECORD)
        if record.outcome.status is RunStatus.RUNNING and number not in elsewhere:
            text = claim_of(attempt)
            host = read_claim(text, where=str(attempt / CLAIM)).host if text else record.circumstances.host.name
            closed.append(close_killed(attempt, host=host))
    return closed


def require_not_running(run: Path) -> None:
    """Raise `ResumeError` if a process on this machine runs an attempt of the run."""
    for number in attempts(run):
        if is_alive(attempt := run / ATTEMPTS / str(number)):
            message = f"attempt {number} of run {run.name} is still running{_host_suffix(attempt)}"
            raise ResumeError(
                message, hint=f"stop it (docker ps --filter {LABEL} names its container), or wait until it ends"
            )


def record_with_current_settings(run: Path, *, passed: Collection[int] = ()) -> Record:
    """Return the record of the last attempt that is not in `passed`, with its current settings, including the allowed changes."""
    records = [record_of(run, number) for number in recorded_attempts(run) if number not in passed]
    last = records[-1]
    ingredients = last.ingredients.model_copy(update={"settings": current_settings(records)})
    return last.model_copy(update={"ingredients": ingredients})


def last_record(run: Path, *, passed: Collection[int] = ()) -> Record:
    """Return the record of the last recorded attempt that is not in `passed`."""
    return record_of(run, max((number for number in recorded_attempts(run) if number not in passed), default=None))


def require_source(folder: Path, digest: str, *, unpack_again: bool = False) -> None:
    """Raise `DigestMismatchError` unless the frozen source in the folder of a run or a sweep has this digest.

    If only the archive exists, as after a pull, it is unpacked. `unpack_again` replaces the unpacked source in any case, since the code of
    another user may have added files to it.
    """
    bundle = load_bundle(folder / ARCHIVE, digest=digest)
    with disk_faults(folder), folder_of(folder / ARCHIVE) as run:
        if unpack_again:
            run.remove_tree(COPY)
        if run.stat(COPY) is None:
            aside = f".{COPY}.{os.getpid()}{PARTIAL}"
            unpack(bundle, run, aside)
            run.rename(aside, COPY)
    with folder_of(folder / ARCHIVE) as run:
        for file in bundle.files:
            if not _holds(run, f"{COPY}/{file.path}", file.data):
                message = f"{folder / COPY / file.path} differs from the frozen source"
                raise DigestMismatchError(message, hint=f"remove {folder / COPY}; it is unpacked again")


def _holds(folder: Root, path: str, data: bytes) -> bool:
    try:
        return folder.read(path, most=len(data)) == data
    except (FileNotFoundError, DocumentError, UnsafePathError):
        return False


def archive_observed_image(run: Path) -> None:
    """Move the description of the last attempt's image into the attempt's folder, since the next attempt may use another image."""
    numbers = attempts(run)
    with disk_faults(run), run_root(run) as folder:
        if numbers and folder.stat(OBSERVED_IMAGE) is not None:
            folder.rename(OBSERVED_IMAGE, f"{ATTEMPTS}/{numbers[-1]}/{OBSERVED_IMAGE}")


def parse_allowed(text: str) -> list[str]:
    """Parse the names after --allow. Raise `UsageError` for an unknown name."""
    names = [word.strip() for word in text.split(",") if word.strip()]
    for word in names:
        if word not in KINDS:
            raise UsageError(f"--allow {word}: expected {', '.join(KINDS)}", hint=did_you_mean(word, KINDS))
    return names


def check_ingredients(
    record: Record, ingredients: Ingredients, circumstances: Circumstances, *, allowed: Collection[str]
) -> list[str]:
    """Return the differences of an attempt's ingredients from those of its run, one per line.

    `record` is the record of an earlier attempt. Raise `ResumeError` if `allowed` does not cover a difference that is not in `record`.
    """
    attempt = record.model_copy(update={"ingredients": ingredients, "circumstances": circumstances})
    recorded = read_record(attempt.to_json(), where="this attempt")  # values as a record stores them: 0.0 becomes 0
    covered_kinds = {kind for name in allowed for kind in KINDS[name]}
    changes = [one for one in candidates(record, recorded) if one.ingredient]
    lines = [change_line(one.kind, one.name, one.a, one.b) for one in changes]
    earlier = set(record.circumstances.changed)
    rejected = [
        line for one, line in zip(changes, lines, strict=True) if one.kind not in covered_kinds and line not in earlier
    ]
    if rejected:
        names = {name for name, covers in KINDS.items() for one in changes if one.kind in covers} | set(allowed)
        message = "\n  ".join([f"run {record.run} cannot be resumed: its ingredients have changed", *rejected])
        raise ResumeError(
            message, hint=f"undo the changes, or allow and record them: --allow {','.join(sorted(names))}"
        )
    return lines


def origins_of(record: Record, origins: Mapping[str, Origin], *, command: Sequence[str]) -> dict[str, Origin]:
    """Return the origin of each value of a resumed attempt: the recorded origin, except for values that the user gave again.

    The run's settings are passed in a file, so `origins` has the origin `file` for them.
    """
    options = parse_options([word for word in command if word != "-h"][2:])
    repeated = {name for word in options for name in (word, word.removeprefix("no_"))}
    recorded = {name: Origin(word) for name, word in record.circumstances.origins.items() if word in set(Origin)}
    return {
        name: origin if name in repeated or origin is Origin.ENVIRONMENT else recorded.get(name, origin)
        for name, origin in origins.items()
    }


def files_of(record: Record, origins: Mapping[str, Origin]) -> dict[str, str]:
    """Return the recorded settings file of each value of a resumed attempt whose origin is still `file`."""
    files = record.circumstances.settings_files
    return {name: file for name, file in files.items() if origins.get(name) is Origin.FILE}


def concurrent_start_error(run: Path, number: int) -> ResumeError:
    """Return the error for an attempt that another process has just started."""
    host = _host_suffix(run / ATTEMPTS / str(number))
    return ResumeError(f"attempt {number} of run {run.name} was just started{host}", hint="wait until it ends")


def _host_suffix(attempt: Path) -> str:
    text = claim_of(attempt)
    return "" if text is None else f" on host {read_claim(text, where=str(attempt / CLAIM)).host}"
