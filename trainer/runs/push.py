"""Copy a published run from one store to another, byte for byte.

The seal is written last, as when a run is published. If a copy is interrupted, the same call completes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.base.errors import DigestMismatchError, RunError, RunNotFoundError
from trainer.base.parallel import StopFlag, in_parallel, patiently
from trainer.base.progress import SILENT
from trainer.runs.seal import claim_key, read_claim, read_sealed, sealed_key
from trainer.stores.contract import object_key
from trainer.stores.transfer import copy_object, read_small

if TYPE_CHECKING:
    from trainer.base.file_entry import File
    from trainer.base.progress import Progress
    from trainer.runs.record import Record
    from trainer.runs.seal import Sealed
    from trainer.stores.contract import Store

_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedRun:
    """The result of copying a run."""

    run: str
    records: tuple[Record, ...]
    sent: int
    """Bytes of files that the target did not have."""
    is_new: bool
    """Whether this call sealed an attempt in the target."""


def push_run(run: str, *, source: Store, target: Store, progress: Progress = SILENT) -> PushedRun:
    """Copy every attempt of `run` that is sealed in `source`, and the claims of all attempts.

    Raise `RunNotFoundError` if no attempt is sealed, `RunError` if `target` has another claim, `DigestMismatchError` if it has another
    seal, `StoreError`.
    """
    records: list[Record] = []
    sent, is_new, number = 0, False, 1
    while (claim := _read_claim(run, number, source)) is not None:
        _copy_claim(claim, run, number, target)
        key = sealed_key(run, number)
        if source.size(key) is not None:
            text = read_small(source, key)
            sealed, record = read_sealed(text, run=run, attempt=number, where=f"{key} in {source.label}")
            sent += _copy_files(sealed, run, source=source, target=target, progress=progress)
            is_new |= _copy_seal(text, key, target)
            records.append(record)
        number += 1
    if not records:
        raise RunNotFoundError(f"run {run} is not in {source.label}", hint="`reprise runs ls` lists the runs in it")
    return PushedRun(run=run, records=tuple(records), sent=sent, is_new=is_new)


def missing_datasets(record: Record, target: Store) -> list[str]:
    """Return the datasets of a run, as NAME@VERSION, whose manifests are unknown or not in `target`."""
    manifests = record.circumstances.manifests
    return [
        f"{name}@{used.version}"
        for name, used in record.ingredients.datasets.items()
        if name not in manifests or target.size(object_key(manifests[name])) is None
    ]


def _read_claim(run: str, number: int, source: Store) -> bytes | None:
    key = claim_key(run, number)
    return None if source.size(key) is None else read_small(source, key)


def _copy_claim(claim: bytes, run: str, number: int, target: Store) -> None:
    key = claim_key(run, number)
    if target.create(key, claim):
        return
    if (existing := read_small(target, key)) != claim:
        other = read_claim(existing, where=f"{key} in {target.label}")
        message = f"attempt {number} of run {run} is already in {target.label}, from host {other.host}"
        raise RunError(message, hint="nothing was changed; use another store: --store ADDRESS")


def _copy_files(sealed: Sealed, run: str, *, source: Store, target: Store, progress: Progress) -> int:
    files = [*sealed.files, *([sealed.source] if sealed.source else [])]

    def copy(file: File, stop: StopFlag) -> int:
        stop.check()
        sent = patiently(lambda: copy_object(file.sha256, source=source, target=target, size=file.size), stop)
        progress.advance(file.size)
        return sent

    progress.begin(f"run {run}", sealed.size)
    try:
        return sum(in_parallel(copy, files, threads=_THREADS))
    finally:
        progress.end()


def _copy_seal(text: bytes, key: str, target: Store) -> bool:
    if target.create(key, text):
        return True
    if read_small(target, key) != text:
        raise DigestMismatchError(
            f"{key} is in {target.label} with different content", hint="nothing was changed there"
        )
    return False
