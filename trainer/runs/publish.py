"""Publishing an attempt: its claim, its files, its seal; the seal last.

Knows the order that makes it safe: whoever finds the seal finds everything it names. Refuses to publish what is still
under way, and what is no longer what the record says. Stopped anywhere, it is finished by the same command; two at
once do the same work once more.
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
from trainer.runs.record import Record, Status
from trainer.runs.run import (
    ATTEMPTS,
    CLAIM,
    PUBLISHED,
    RECORD,
    attempts,
    claim_of,
    load_record,
    published,
    record_of,
    recorded,
)
from trainer.runs.seal import Claim, Published, Sealed, claim_key, read_claim, sealed_key
from trainer.source.capture import ARCHIVE
from trainer.stores.contract import object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.stores.contract import Store

_AT_ONCE: Final = 8
_LOG: Final = 64 << 20
"""Bytes of a file that may have grown since its record was closed."""


def publish_run(folder: Path, store: Store, *, progress: Progress = SILENT) -> list[Published]:
    """Bring every attempt of the run in `folder` into `store`; those that are there already cost a look.

    Raises `RunError`, `DigestMismatchError`, `StoreError` and its kinds; what was brought before that stays, and is not brought again.
    """
    known = recorded(folder)
    for number in set(attempts(folder)[: max(known, default=0)]) - set(known):
        _claim_empty(folder, number, store, record=record_of(folder))
    return [publish_attempt(folder, store, attempt=number, progress=progress) for number in known]


def publish_attempt(folder: Path, store: Store, *, attempt: int, progress: Progress = SILENT) -> Published:
    """Bring one attempt into `store`, as `publish_run` does."""
    place = folder / ATTEMPTS / str(attempt)
    record = load_record(place / RECORD)
    if record.outcome.status is Status.RUNNING:
        said = f"run {record.run} is still running, or its process was killed; only a run that is over is published"
        raise RunError(
            said, hint=f"wait for its end; if it was killed: `reprise runs publish {record.run} --abandoned`"
        )
    _claim(place, record, store)
    sealed = seal_of(place, record)
    _bring_all(sealed, place, folder, store, progress=progress)
    note = _seal(place, record, store, sealed)
    if published(place) != note:
        try:
            with disk_faults(place), attempt_root(place) as opened:
                opened.write_whole(PUBLISHED, note.to_json())
        except MachineError as fault:
            progress.note(f"published to {store.label}; the run's folder holds no note of that: {fault.message}")
    return note


def seal_of(attempt: Path, record: Record) -> Sealed:
    """The seal of an attempt as its files are now. Raises `DocumentError`."""
    path = attempt / RECORD
    with reading(path), attempt_root(attempt) as folder:
        text = folder.read(RECORD)
    content = {
        "record": json_value(text, where=str(path)),
        "files": record.outcome.files,
        "source": source_of(attempt.parents[1]),
    }
    return typed(content, Sealed, where=f"the seal of {path}")


def _claim(place: Path, record: Record, store: Store) -> None:
    """Make sure that this attempt is ours: the claim was written when it was opened, and the first of a name holds."""
    key = claim_key(record.run, record.attempt)
    if (mine := claim_of(place)) is None:
        raise RunError(
            f"{place / CLAIM} is gone: whose attempt this is cannot be told", hint="put it back, and publish again"
        )
    if store.create(key, mine):
        return
    theirs: Claim = read_claim(read_small(store, key), where=f"{key} in {store.label}")
    if theirs.to_json() != mine:
        said = f"attempt {record.attempt} of run {record.run} is already in {store.label}, made on {theirs.host}"
        raise RunError(said, hint="it is another attempt of the same number: nothing was changed")


def _claim_empty(folder: Path, number: int, store: Store, *, record: Record) -> None:
    """Claim the number of an attempt that was killed before it had a record: who probes 1, 2, ... goes on to the next."""
    host = record.circumstances.host.name
    nobody = Claim(run=record.run, attempt=number, identity=record.identity, host=host, token="0" * 32)
    mine = claim_of(folder / ATTEMPTS / str(number))
    store.create(claim_key(record.run, number), nobody.to_json() if mine is None else mine)


def source_of(folder: Path) -> File | None:
    """The run's source bundle, as a seal names it."""
    with suppress(FileNotFoundError), run_root(folder) as run, run.open(ARCHIVE) as file:
        return File(path=ARCHIVE, size=os.fstat(file.fileno()).st_size, sha256=digest_of_open(file))
    return None


def _bring_all(sealed: Sealed, place: Path, folder: Path, store: Store, *, progress: Progress) -> None:
    progress.begin(f"run {folder.name}", sealed.size)
    try:
        with run_root(folder) as run, attempt_root(place) as attempt, ThreadPoolExecutor(_AT_ONCE) as pool:
            files = [(attempt, file) for file in sealed.files] + [(run, file) for file in [sealed.source] if file]
            for size in pool.map(lambda item: _bring(item[0], item[1], store), files):
                progress.advance(size)
    finally:
        progress.end()


def _bring(folder: Root, file: File, store: Store) -> int:
    path = folder.path / file.path
    try:
        with folder.open(file.path) as body:
            store.write(object_key(file.sha256), _as_recorded(body, file), sha256=file.sha256)
    except FileNotFoundError as fault:
        raise DigestMismatchError(
            f"{path} is gone; the record lists it", hint="put it back, and publish again"
        ) from fault
    except DigestMismatchError as fault:
        raise DigestMismatchError(f"{path} is no longer the file that the record lists", hint="put it back") from fault
    return file.size


def _as_recorded(body: BinaryIO, file: File) -> BinaryIO | bytes:
    """The file's bytes as they were when the record was closed: a log that grew afterwards is cut back to that."""
    grown = os.fstat(body.fileno()).st_size > file.size
    return body.read(file.size) if grown and file.size <= _LOG else body


def _seal(place: Path, record: Record, store: Store, sealed: Sealed) -> Published:
    text, key = sealed.to_json(), sealed_key(record.run, record.attempt)
    if not store.create(key, text):
        require_seal(read_small(store, key), sealed, published(place), where=f"{key} in {store.label}")
    return Published.of(sealed, store=store.label)


def require_seal(there: bytes, sealed: Sealed, note: Published | None, *, where: str) -> None:
    """Raise `DigestMismatchError` if the seal in a store differs from the local attempt; the publication note tells which side changed."""
    here, found = digest_of_bytes(sealed.to_json()), digest_of_bytes(there)
    if here == found:
        return
    if note is not None and note.sealed == here:
        said = f"{where} was changed after the run was published: published was {here[:19]}.., found {found[:19]}.."
        hint = (
            "the run here is the published one: keep it, find out who can write to that store, and publish to another"
        )
    elif note is not None and note.sealed == found:
        said = f"the run here was changed after it was published: {where} is {found[:19]}.., here is {here[:19]}.."
        hint = f"`reprise runs pull {sealed.record['run']}` restores the published record and files"
    else:
        said = f"{where} is {found[:19]}..; the run here is {here[:19]}.., and no note of a publication is here"
        hint = "one of the two was changed: pull the run into another folder (REPRISE_RUNS) and compare"
    raise DigestMismatchError(said, hint=hint)
