"""Publish attempts: first the claims, then the files, then the seal.

If a seal is in a store, so is every file that it lists. An interrupted publication is completed by the same command; two concurrent
publications of one attempt are safe. An attempt is not sealed if another process has claimed a later attempt (`trainer.runs.claims`).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_bytes, digest_of_open
from trainer.base.document import json_value, typed
from trainer.base.errors import DigestMismatchError, MachineError, RunError
from trainer.base.file_entry import File
from trainer.base.plain_text import reading
from trainer.base.progress import SILENT, Progress
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import run_root
from trainer.runs.claims import claim_in_store, require_last
from trainer.runs.record import Record, RunStatus
from trainer.runs.run import (
    ATTEMPTS,
    PUBLISHED,
    RECORD,
    load_record,
    pulled_snapshots,
    read_publication,
    recorded_attempts,
)
from trainer.runs.seal import Published, Sealed, sealed_key
from trainer.source.capture import ARCHIVE
from trainer.stores.contract import object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.runs.record import Record
    from trainer.stores.contract import Store

_THREADS: Final = 8
_LOG: Final = 64 << 20
"""The maximum recorded size, in bytes, of a file that may have grown since its record was closed."""


def publish_run(folder: Path, store: Store, *, own: int | None = None, progress: Progress = SILENT) -> list[Published]:
    """Publish every attempt of the run in `folder` to `store`; files that the store has are not uploaded again.

    `own` is the attempt that the calling process trained, if any: a later attempt in the folder then belongs to another process. Raise
    `RunError` if an attempt has not ended or none ran here, `ClaimedError` if another process has resumed the run, `DigestMismatchError`
    if a file differs from the record, `StoreError`. Files that were uploaded before the error remain in the store.
    """
    elsewhere = pulled_snapshots(folder)
    recorded = [number for number in recorded_attempts(folder) if number not in elsewhere]
    if not recorded and elsewhere:
        message = f"run {folder.name} was pulled while it was running on another machine; no attempt of it ran here"
        raise RunError(message, hint=f"to continue it here: `reprise train --resume {folder.name}`")
    return [publish_attempt(folder, store, attempt=number, own=own, progress=progress) for number in recorded]


def publish_attempt(
    folder: Path, store: Store, *, attempt: int, own: int | None = None, progress: Progress = SILENT
) -> Published:
    """Publish one attempt to `store`, as `publish_run` does. Raise `ClaimedError` if another process claimed a later attempt."""
    path = folder / ATTEMPTS / str(attempt)
    record = load_record(path / RECORD)
    if record.outcome.status is RunStatus.RUNNING:
        message = f"run {record.run} is still running, or its process was killed; only a finished run can be published"
        raise RunError(
            message, hint=f"wait until it ends; if it was killed: `reprise runs publish {record.run} --abandoned`"
        )
    claim_in_store(folder, store, attempt=attempt)
    # an existing seal is compared below, and its files are checked again
    is_new = store.size(sealed_key(record.run, attempt)) is None
    if is_new:
        require_last(folder, store, attempt=own)
    sealed = seal_of(path, record)
    _upload_files(sealed, path, folder, store, progress=progress)
    if is_new:
        require_last(folder, store, attempt=own)
    note = _write_seal(path, record, store, sealed)
    if read_publication(path) != note:
        try:
            with disk_faults(path), attempt_root(path) as opened:
                opened.write_whole(PUBLISHED, note.to_json())
        except MachineError as fault:
            progress.note(f"published to {store.label}, but could not write {PUBLISHED}: {fault.message}")
    return note


def seal_of(attempt: Path, record: Record) -> Sealed:
    """Return the seal of an attempt: its record as it is on disk, the files that `record` lists, and the source bundle.

    Raise `DocumentError` if the record cannot be read or the seal would be invalid.
    """
    path = attempt / RECORD
    with reading(path), attempt_root(attempt) as folder:
        text = folder.read(RECORD)
    content = {
        "record": json_value(text, where=str(path)),
        "files": record.outcome.files,
        "source": source_of(attempt.parents[1]),
    }
    return typed(content, Sealed, where=f"the seal of {path}")


def source_of(folder: Path) -> File | None:
    """Return the entry of the run's source bundle for a seal; `None` if the run has no bundle."""
    with suppress(FileNotFoundError), run_root(folder) as run, run.open(ARCHIVE) as file:
        return File(path=ARCHIVE, size=os.fstat(file.fileno()).st_size, sha256=digest_of_open(file))
    return None


def _upload_files(sealed: Sealed, path: Path, folder: Path, store: Store, *, progress: Progress) -> None:
    progress.begin(f"run {folder.name}", sealed.size)
    try:
        with run_root(folder) as run, attempt_root(path) as attempt, ThreadPoolExecutor(_THREADS) as pool:
            files = [(attempt, file) for file in sealed.files] + [(run, file) for file in [sealed.source] if file]
            for size in pool.map(lambda item: _upload(item[0], item[1], store), files):
                progress.advance(size)
    finally:
        progress.end()


def _upload(folder: Root, file: File, store: Store) -> int:
    path = folder.path / file.path
    try:
        with folder.open(file.path) as body:
            store.write(object_key(file.sha256), _as_recorded(body, file), sha256=file.sha256)
    except FileNotFoundError as fault:
        raise DigestMismatchError(
            f"{path} is missing; the record lists it", hint="restore the file, then publish again"
        ) from fault
    except DigestMismatchError as fault:
        raise DigestMismatchError(
            f"{path} differs from the file that the record lists", hint="restore the recorded file"
        ) from fault
    return file.size


def _as_recorded(body: BinaryIO, file: File) -> BinaryIO | bytes:
    """Return the file, or only its recorded bytes if it has grown since the record was closed, as a log may."""
    grown = os.fstat(body.fileno()).st_size > file.size
    return body.read(file.size) if grown and file.size <= _LOG else body


def _write_seal(path: Path, record: Record, store: Store, sealed: Sealed) -> Published:
    text, key = sealed.to_json(), sealed_key(record.run, record.attempt)
    if not store.create(key, text):
        require_seal(read_small(store, key), sealed, read_publication(path), where=f"{key} in {store.label}")
    return Published.of(sealed, store=store.label)


def require_seal(published: bytes, sealed: Sealed, note: Published | None, *, where: str) -> None:
    """Raise `DigestMismatchError` if the seal in a store differs from the local attempt; the note of publication shows which changed."""
    local_digest, store_digest = digest_of_bytes(sealed.to_json()), digest_of_bytes(published)
    if local_digest == store_digest:
        return
    if note is not None and note.sealed == local_digest:
        message = f"{where} was changed after the run was published: expected {local_digest[:19]}.., found {store_digest[:19]}.."
        hint = "the local run is the published run: keep it, find out who can write to that store, and publish to another store"
    elif note is not None and note.sealed == store_digest:
        message = f"the local run was changed after it was published: {where} is {store_digest[:19]}.., the local run {local_digest[:19]}.."
        hint = f"`reprise runs pull {sealed.record['run']}` restores the published record and files"
    else:
        message = (
            f"{where} is {store_digest[:19]}..; the local run is {local_digest[:19]}.. and has no note of a publication"
        )
        hint = "one of them was changed: pull the run into another folder (REPRISE_RUNS) and compare them"
    raise DigestMismatchError(message, hint=hint)
