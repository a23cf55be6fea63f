"""Publish the checkpoint of a running attempt as a snapshot, from which another machine can resume the run if this machine is lost.

The files are opened between two batches and uploaded later from the open descriptors, so a checkpoint that training removes in the
meantime remains readable. The objects are written first and the snapshot's document last, under the next free number.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from trainer.base.digest import digest_of_bytes
from trainer.base.document import json_value, typed
from trainer.base.errors import DigestMismatchError, StoreError
from trainer.base.file_entry import File
from trainer.base.plain_text import reading
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import run_root
from trainer.base.spool import spool
from trainer.runs.checkpoint_pointer import BEST, FOLDER, LATEST
from trainer.runs.claims import claim_in_store, require_last
from trainer.runs.initial_weights import INITIAL
from trainer.runs.publish import source_of
from trainer.runs.run import RECORD
from trainer.runs.seal import MOST_SNAPSHOTS, Snapshot, read_snapshot, snapshot_key
from trainer.source.capture import ARCHIVE
from trainer.stores.contract import BLOCK, object_key
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

    from trainer.runs.checkpoint_pointer import Saved
    from trainer.runs.record import Record
    from trainer.stores.contract import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The first `size` bytes of an open file."""

    path: str
    body: BinaryIO
    size: int
    sha256: str | None = None
    """The digest of a checkpoint; `None` for other files, whose digest is computed during the upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCheckpoint:
    """The files of a checkpoint, open for reading; logs end where they ended when it was saved. The caller must call `close`."""

    attempt: Path
    saved: Saved
    parts: tuple[_Part, ...]
    files: ExitStack

    @classmethod
    def of(cls, attempt: Path, saved: Saved) -> Self:
        """Open the files of the checkpoint `saved` without reading them. Raise `OSError`, `UnsafePathError`."""
        named = {part.path: part.sha256 for part in (saved, saved.best) if part}
        with ExitStack() as files, attempt_root(attempt) as folder:
            sizes: dict[str, int | None] = {f"{FOLDER}/{name}": None for name in named} | dict(saved.logs)
            if folder.has_file(INITIAL):
                sizes[INITIAL] = None
            digests: dict[str, str | None] = {f"{FOLDER}/{name}": digest for name, digest in named.items()}
            parts = []
            for path, size in sizes.items():
                body = files.enter_context(folder.open(path))
                whole = os.fstat(body.fileno()).st_size if size is None else size
                parts.append(_Part(path=path, body=body, size=whole, sha256=digests.get(path)))
            return cls(attempt=attempt, saved=saved, parts=tuple(parts), files=files.pop_all())

    def close(self) -> None:
        """Close the files."""
        self.files.close()


def publish_snapshot(
    checkpoint: OpenCheckpoint, store: Store, *, check: Callable[[], None] = lambda: None, after: int = 0
) -> Snapshot:
    """Publish the files and the record of a running attempt as its next snapshot, and return it.

    `after` is the number of an earlier snapshot. `check` is called between two files and may raise to stop the upload. Raise `ClaimedError`
    if another process has claimed this or a later attempt, `DigestMismatchError` if a file has changed, `DocumentError`, `StoreError`.
    """
    attempt, run = checkpoint.attempt, checkpoint.attempt.parents[1]
    number = int(attempt.name)
    claim_in_store(run, store, attempt=number)
    require_last(run, store, attempt=number)
    files = []
    for part in checkpoint.parts:
        check()
        files.append(_upload(part, store))
    for name, text in _pointers(checkpoint.saved):
        store.write(object_key(digest_of_bytes(text)), text, sha256=digest_of_bytes(text))
        files.append(File(path=name, size=len(text), sha256=digest_of_bytes(text)))
    check()
    content = {
        "record": _record_of(attempt),
        "files": sorted(files, key=lambda file: file.path),
        "source": _publish_source(run, store),
        "step": checkpoint.saved.step,
    }
    require_last(run, store, attempt=number)
    return _create(content, run.name, number, store, after=after)


def newest_snapshot(store: Store, run: str, attempt: int) -> tuple[Snapshot, Record] | None:
    """Return the last snapshot of an attempt in a store; `None` if it has none. Raise `DocumentError` if the snapshot is invalid."""
    number = last_number(lambda each: store.size(snapshot_key(run, attempt, each)) is not None)
    if number == 0:
        return None
    key = snapshot_key(run, attempt, number)
    where = f"{key} in {store.label}"
    return read_snapshot(read_small(store, key), run=run, attempt=attempt, where=where)


def last_number(exists: Callable[[int], bool]) -> int:
    """Return the largest n for which 1, 2, ..., n exist; 0 if 1 does not exist. The number of calls is logarithmic in n.

    >>> last_number(lambda number: number <= 1000), last_number(lambda number: False)
    (1000, 0)
    """
    above = 1
    while above <= MOST_SNAPSHOTS and exists(above):
        above *= 2
    below = above // 2
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if exists(middle) else (below, middle)
    return below


def _create(content: dict[str, object], run: str, attempt: int, store: Store, *, after: int) -> Snapshot:
    for number in range(after + 1, MOST_SNAPSHOTS + 1):
        key = snapshot_key(run, attempt, number)
        snapshot = typed({**content, "number": number}, Snapshot, where=key)
        if store.create(key, snapshot.to_json()):
            return snapshot
    message = f"attempt {attempt} of run {run} has {MOST_SNAPSHOTS:,} snapshots in {store.label}"
    raise StoreError(message, hint="use a larger --publish-every")


def _record_of(attempt: Path) -> object:
    path = attempt / RECORD
    with reading(path), attempt_root(attempt) as folder:
        return json_value(folder.read(RECORD), where=str(path))


def _pointers(saved: Saved) -> Iterator[tuple[str, bytes]]:
    yield f"{FOLDER}/{LATEST}", saved.to_json()
    if saved.best is not None:
        yield f"{FOLDER}/{BEST}", saved.best.model_dump_json().encode() + b"\n"


def _publish_source(run: Path, store: Store) -> File | None:
    if (source := source_of(run)) is not None and store.size(object_key(source.sha256)) != source.size:
        with run_root(run) as folder, folder.open(ARCHIVE) as body:
            store.write(object_key(source.sha256), body, sha256=source.sha256)
    return source


def _upload(part: _Part, store: Store) -> File:
    with _whole(part) as (body, digest):
        store.write(object_key(digest), body, sha256=digest)
    return File(path=part.path, size=part.size, sha256=digest)


@contextmanager
def _whole(part: _Part) -> Iterator[tuple[BinaryIO, str]]:
    """Yield a file with the bytes of a part, and their digest. A part without a known digest, such as a growing log, is copied."""
    if part.sha256 is not None:
        yield part.body, part.sha256
        return
    running, left = hashlib.sha256(), part.size
    part.body.seek(0)
    with spool() as copy:
        while left and (block := part.body.read(min(left, BLOCK))):
            running.update(block)
            copy.write(block)
            left -= len(block)
        if left:
            message = f"{part.path} is shorter than when the checkpoint was saved"
            raise DigestMismatchError(message, hint="the next checkpoint is published")
        yield copy, f"sha256:{running.hexdigest()}"
