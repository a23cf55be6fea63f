"""Pulling the attempts of a run from a store: each is verified and appears atomically.

Attempts are found by probing 1, 2, ..., not by listing. Rejected are paths out of the run's folder, more bytes than allowed, and a source
other than the recorded source.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, RunNotFoundError
from trainer.base.progress import SILENT, Progress
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import PARTIAL, Root, run_root
from trainer.runs.publish import fault_of, source_of
from trainer.runs.record import MOST_ATTEMPTS
from trainer.runs.run import ATTEMPTS, CLAIM, PUBLISHED, RECORD, read_publication, record_of, recorded_attempts
from trainer.runs.seal import Published, claim_key, read_claim, read_sealed, sealed_key
from trainer.source.capture import ARCHIVE, read_archive
from trainer.stores.transfer import read_file, read_small

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.base.file_entry import File
    from trainer.runs.record import Record
    from trainer.runs.seal import Sealed
    from trainer.stores.contract import Store

EDITED: Final = "record.edited.json"
"""The copy of a record that was edited after publication, beside the restored record."""
LARGEST = 100 << 30
"""The most bytes of a run that are pulled by default."""
_THREADS = 8


def sealed_attempts(store: Store, run: str) -> Iterator[tuple[Sealed, Record]]:
    """Yield the published attempts of a run in order, without attempts that were claimed and never sealed."""
    for number in range(1, MOST_ATTEMPTS + 1):
        key = sealed_key(run, number)
        if store.size(key) is not None:
            yield read_sealed(read_small(store, key), run=run, attempt=number, where=f"{key} in {store.label}")
        elif store.size(claim_key(run, number)) is None:
            return


def pull_run(
    run: str, store: Store, *, runs: Path, largest: int = LARGEST, progress: Progress = SILENT
) -> list[Record]:
    """Download the attempts of `run` from `store` into the folder `runs`; of attempts that exist, restore damaged files.

    Raise `RunNotFoundError`, `DigestMismatchError`, `DocumentError`, `StoreError` and its subclasses, `DiskFullError`.
    """
    sealed_records = list(sealed_attempts(store, run))
    if not sealed_records:
        raise RunNotFoundError(f"run {run} is not in {store.label}", hint="`reprise runs ls` lists the runs in it")
    _check_size(run, sealed_records, largest)
    _require_one_identity(runs / run, sealed_records)
    with disk_faults(runs / run), Root.at(runs, make=True) as root:
        for sealed, record in sealed_records:
            attempt = f"{run}/{ATTEMPTS}/{record.attempt}"
            if root.stat(attempt) is None:
                _pull(sealed, record, store, runs=root, progress=progress)
            elif root.stat(f"{attempt}/{RECORD}") is not None:
                with attempt_root(runs / attempt) as folder:
                    _restore_record(sealed, store, folder, progress=progress)
                    _restore_files(sealed, store, folder, runs=root, progress=progress)
    return [record for _, record in sealed_records]


def _pull(sealed: Sealed, record: Record, store: Store, *, runs: Root, progress: Progress) -> None:
    with _temporary_folder(runs, record.run) as temporary:
        with temporary.below(f"{ATTEMPTS}/{record.attempt}", make=True) as attempt:
            _fetch_all(sealed, store, attempt, progress=progress)
            if sealed.source and runs.stat(f"{record.run}/{ARCHIVE}") is None:
                _fetch_source(sealed.source, record, store, temporary)
            key = claim_key(record.run, record.attempt)
            claim = read_claim(read_small(store, key), where=f"{key} in {store.label}")
            attempt.write_whole(CLAIM, claim.to_json())
            attempt.write_whole(PUBLISHED, Published.of(sealed, store=store.label).to_json())
            attempt.write_whole(RECORD, sealed.record_text())
        with suppress(FileExistsError):
            runs.mkdir(record.run)
        with run_root(runs.path / record.run) as run:
            _move_into(temporary, run, attempt=str(record.attempt))


def _restore_record(sealed: Sealed, store: Store, attempt: Root, *, progress: Progress) -> None:
    """Restore the published record if it was edited here; raise `DigestMismatchError` if the store's seal changed since publication."""
    note, seal, run = read_publication(attempt.path), digest_of_bytes(sealed.to_json()), attempt.path.parents[1].name
    if note is not None and note.sealed != seal:
        message = f"the seal of {run} in {store.label} was changed after the run was published"
        raise DigestMismatchError(
            f"{message}: expected {note.sealed[:19]}.., found {seal[:19]}..",
            hint="the local run is the published run: keep it, and find out who can write to that store",
        )
    if attempt.read(RECORD) == sealed.record_text():
        return
    if note is None:
        message = f"the local attempt {attempt.path.name} of run {run} differs from the attempt in {store.label}"
        raise DigestMismatchError(
            message,
            hint="nothing was changed; to inspect the published attempt, pull it into another folder: REPRISE_RUNS",
        )
    attempt.rename(RECORD, EDITED)
    attempt.write_whole(RECORD, sealed.record_text())
    progress.note(f"restored: {attempt.path / RECORD}; the edited record is kept as {EDITED}")


def _restore_files(sealed: Sealed, store: Store, attempt: Root, *, runs: Root, progress: Progress) -> None:
    """Restore, atomically, each file of an attempt that is missing or differs from the seal."""
    damaged = [file for file in sealed.files if fault_of(attempt, file)]
    with _temporary_folder(runs, attempt.path.parents[1].name) as temporary:
        for file in damaged:
            _fetch_file(store, file, temporary)
            if parent := file.path.rpartition("/")[0]:
                attempt.below(parent, make=True).close()
            temporary.rename(file.path, file.path, to=attempt)
            progress.note(f"restored: {attempt.path / file.path}")


def _fetch_all(sealed: Sealed, store: Store, attempt: Root, *, progress: Progress) -> None:
    progress.begin(f"run {sealed.record['run']}", sum(file.size for file in sealed.files))
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for size in pool.map(lambda file: _fetch_file(store, file, attempt), sealed.files):
                progress.advance(size)
    finally:
        progress.end()


def _fetch_file(store: Store, file: File, attempt: Root) -> int:
    read_file(store, file, into=attempt)
    return file.size


def _fetch_source(file: File, record: Record, store: Store, folder: Root) -> None:
    """Download the source bundle under its standard name. It stays packed until its code is trusted."""
    read_file(store, file.model_copy(update={"path": ARCHIVE}), into=folder)
    bundle = read_archive(folder.path / ARCHIVE)
    if bundle.digest != record.ingredients.source:
        message = (
            f"the source bundle of run {record.run} is {bundle.digest}; its record names {record.ingredients.source}"
        )
        raise DigestMismatchError(message, hint="do not use it")


@contextmanager
def _temporary_folder(runs: Root, run: str) -> Iterator[Root]:
    """Yield a temporary folder beside the run's folder, and remove it at the end."""
    name = f".{run}.{token_hex(4)}{PARTIAL}"
    runs.mkdir(name, mode=0o755)
    try:
        with runs.below(name) as folder:
            yield folder
    finally:
        with suppress(OSError):
            runs.remove_tree(name)


def _move_into(folder: Root, run: Root, *, attempt: str) -> None:
    """Rename the fetched files to their final names, the attempt last; another process may have pulled equal files meanwhile."""
    run.below(ATTEMPTS, make=True).close()
    if folder.stat(ARCHIVE) is not None and run.stat(ARCHIVE) is None:
        _rename(folder, run, ARCHIVE)
    _rename(folder, run, f"{ATTEMPTS}/{attempt}")


def _rename(folder: Root, run: Root, name: str) -> None:
    try:
        folder.rename(name, name, to=run)
    except OSError:
        if run.stat(name) is None:
            raise


def _require_one_identity(folder: Path, sealed_records: list[tuple[Sealed, Record]]) -> None:
    """Raise `DigestMismatchError` unless local and published attempts have one identity and one source."""
    identities = {record.identity for _, record in sealed_records}
    identities |= set(_identities(folder))
    if len(identities) > 1:
        message = f"the attempts of run {folder.name} have {len(identities)} identities; expected one: {', '.join(sorted(identities))}"
        raise DigestMismatchError(message, hint="an attempt was altered or forged: do not use this run")
    sources = {sealed.source.sha256 for sealed, _ in sealed_records if sealed.source}
    if (local := source_of(folder)) is not None:
        sources.add(local.sha256)
    if len(sources) > 1:
        message = f"the attempts of run {folder.name} have {len(sources)} source bundles; expected one: {', '.join(sorted(sources))}"
        raise DigestMismatchError(
            message, hint=f"if the local bundle is damaged, remove {folder / ARCHIVE} and pull again"
        )


def _identities(folder: Path) -> Iterator[str]:
    """Yield the identities of the local attempts, without edited records, which are restored."""
    for number in recorded_attempts(folder):
        with suppress(DigestMismatchError):
            yield record_of(folder, number).identity


def _check_size(run: str, sealed_records: list[tuple[Sealed, Record]], largest: int) -> None:
    size = sum(sealed.size for sealed, _ in sealed_records)
    if size > largest:
        message = f"run {run} has {size / (1 << 30):.1f} GiB; expected at most {largest / (1 << 30):.1f} GiB"
        raise DigestMismatchError(message, hint=f"to pull it: --max-bytes {size}")
