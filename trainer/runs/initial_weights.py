"""The initial weights that a run takes from another run: their copy in the run's folder, and the chain of parent runs.

    runs/<id>/initial.safetensors, parent.json   while the run is prepared, for the process that opens its record
    runs/<id>/attempts/<n>/initial.safetensors   a file of each attempt, published, pulled and verified like every other file

A run keeps a copy of its parent's weights, so it can be resumed and reproduced without its parent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_open
from trainer.base.document import read_json_below
from trainer.base.errors import DigestMismatchError, RunError
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import run_root
from trainer.runs.record import ParentRun
from trainer.runs.run import ATTEMPTS, attempts
from trainer.runs.seal import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.base.file_entry import File
    from trainer.base.safe_folder import Root
    from trainer.runs.record import Record

WEIGHTS: Final = "weights.safetensors"
INITIAL: Final = "initial.safetensors"
PARENT: Final = "parent.json"
_BLOCK: Final = 1 << 20
_MOST: Final = 1_000
"""The maximum length of a chain of runs, since records may be forged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialWeights:
    """The parent of a run, and the digest of the parent's weights."""

    parent: ParentRun
    sha256: str


def weights_of(record: Record) -> File:
    """Return the entry of a run's weights in its record. Raise `RunError` if the run ran a script or has no weights."""
    if record.ingredients.kind == "script":
        message = f"run {record.run} ran a script; only runs of experiments have weights"
        raise RunError(message, hint="publish the file: `reprise data publish NAME FILE.safetensors`")
    listed = next((file for file in record.outcome.files if file.path == WEIGHTS), None)
    if listed is None:
        message = f"run {record.run} has no weights: it is {record.outcome.status}"
        raise RunError(message, hint=f"`reprise train --resume {record.run}` completes it; or name another run")
    return listed


def stage_parent(parent: Path, record: Record, *, into: Path) -> InitialWeights:
    """Copy the weights of the run in the folder `parent` into the folder of a new run.

    Raise `RunError` if the run has no weights, `DigestMismatchError` if they differ from the record.
    """
    listed = weights_of(record)
    facts = ParentRun(run=record.run, attempt=record.attempt, identity=record.identity)
    return _stage(parent / ATTEMPTS / str(record.attempt), WEIGHTS, facts, listed.sha256, into=into)


def stage_again(attempt: Path, record: Record, *, into: Path) -> InitialWeights:
    """Copy the initial weights of an attempt into the folder of a new run.

    Raise `RunError` if the record names no parent run, `DigestMismatchError` if the weights differ from the record.
    """
    facts, digest = record.circumstances.parent, record.ingredients.initial_weights
    if facts is None or digest is None:
        message = f"the record of run {record.run} does not name the parent run of its initial weights"
        raise RunError(message, hint="it is damaged or malicious: do not run it")
    return _stage(attempt, INITIAL, facts, digest, into=into)


def _stage(attempt: Path, name: str, parent: ParentRun, sha256: str, *, into: Path) -> InitialWeights:
    with disk_faults(into), attempt_root(attempt) as source, run_root(into) as target:
        _copy(source, name, target, sha256=sha256)
        target.write_whole(PARENT, parent.model_dump_json().encode() + b"\n")
    return InitialWeights(parent=parent, sha256=sha256)


def staged(run: Path) -> InitialWeights | None:
    """Return the initial weights that were copied into the folder of a new run; `None` if it has none."""
    with run_root(run) as folder:
        if not folder.has_file(PARENT):
            return None
        parent = read_json_below(folder, PARENT, ParentRun, most=SMALL)
        return InitialWeights(parent=parent, sha256=_digest(folder, INITIAL))


def keep(run: Path, *, attempt: int) -> None:
    """Move the initial weights from the run's folder into `attempt`, or copy them from an earlier attempt.

    Raise `RunError` if neither the folder nor an earlier attempt has them.
    """
    with disk_faults(run), run_root(run) as folder:
        if folder.has_file(PARENT):
            folder.rename(INITIAL, f"{ATTEMPTS}/{attempt}/{INITIAL}")
            folder.unlink(PARENT)
            return
        for number in reversed(attempts(run)[: attempt - 1]):
            if folder.has_file(f"{ATTEMPTS}/{number}/{INITIAL}"):
                with folder.below(f"{ATTEMPTS}/{number}") as earlier, folder.below(f"{ATTEMPTS}/{attempt}") as later:
                    _copy(earlier, INITIAL, later, sha256=_digest(earlier, INITIAL))
                return
    message = f"run {run.name} lacks its initial weights: no attempt has {INITIAL}"
    raise RunError(message, hint=f"`reprise runs pull {run.name}` restores it if the run was published")


def _copy(source: Root, name: str, target: Root, *, sha256: str) -> None:
    running = hashlib.sha256()
    with source.open(name) as file, target.whole(INITIAL) as copy:
        while block := file.read(_BLOCK):
            running.update(block)
            copy.write(block)
        if (digest := f"sha256:{running.hexdigest()}") != sha256:
            message = f"{source.path / name} is not the recorded file: expected {sha256[:19]}, found {digest[:19]}"
            run = source.path.parents[1].name
            hint = f"it was altered: `reprise runs pull {run}` restores it if the run was published"
            raise DigestMismatchError(message, hint=hint)


def _digest(folder: Root, name: str) -> str:
    with folder.open(name) as file:
        return digest_of_open(file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A run from whose weights another run, its child, began."""

    run: str
    record: Record | None
    """`None` if its record cannot be found."""
    has_other_weights: bool = False
    """Whether the child's initial weights differ from the weights in `record`."""


def ancestors(record: Record, find: Callable[[str], Record | None]) -> Iterator[Ancestor]:
    """Yield the ancestors of a run, the parent first; `find` returns the record of a run, or `None`."""
    known, child = {record.run}, record
    while (parent := child.circumstances.parent) is not None and parent.run not in known and len(known) < _MOST:
        known.add(parent.run)
        parent_record = find(parent.run)
        if parent_record is None:
            yield Ancestor(run=parent.run, record=None)
            return
        listed = next((file.sha256 for file in parent_record.outcome.files if file.path == WEIGHTS), None)
        yield Ancestor(
            run=parent.run, record=parent_record, has_other_weights=listed != child.ingredients.initial_weights
        )
        child = parent_record
