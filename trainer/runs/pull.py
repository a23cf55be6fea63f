"""Pull the attempts of a run from a store: each attempt is verified and appears atomically.

If an attempt has no seal, its last snapshot is pulled: the checkpoint from which this machine can resume the run. A later pull replaces the
snapshot with a newer snapshot or with the sealed attempt. Attempts are found by probing 1, 2, ..., not by listing. Paths outside the run's
folder, more bytes than allowed, and a source other than the recorded source are rejected.
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
from trainer.runs.claims import stored_claim
from trainer.runs.open_run import claim_of, hold_number
from trainer.runs.publish import source_of
from trainer.runs.record import MOST_ATTEMPTS
from trainer.runs.run import (
    ATTEMPTS,
    CLAIM,
    PUBLISHED,
    RECORD,
    SNAPSHOT,
    attempts,
    pulled_snapshots,
    read_publication,
    record_of,
    recorded_attempts,
)
from trainer.runs.seal import Published, Sealed, claim_key, read_claim, read_sealed, sealed_key
from trainer.runs.snapshot import newest_snapshot
from trainer.runs.verify import fault_of
from trainer.source.capture import ARCHIVE, read_archive
from trainer.stores.transfer import read_file, read_small

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.base.file_entry import File
    from trainer.runs.record import Record
    from trainer.runs.seal import Contents
    from trainer.stores.contract import Store

EDITED: Final = "record.edited.json"
"""The name of the copy of a record that was edited after publication, beside the restored record."""
EDITED_ARCHIVE: Final = "source.edited.tar.gz"
"""The name of the copy of a source bundle that was edited after publication, beside the restored bundle."""
LARGEST = 100 << 30
"""The maximum size in bytes of a run that is pulled by default."""
_THREADS = 8


def sealed_attempts(store: Store, run: str) -> Iterator[tuple[Sealed, Record]]:
    """Yield the published attempts of a run in order, without attempts that were claimed and never sealed."""
    for number in range(1, MOST_ATTEMPTS + 1):
        key = sealed_key(run, number)
        if store.size(key) is not None:
            yield read_sealed(read_small(store, key), run=run, attempt=number, where=f"{key} in {store.label}")
        elif store.size(claim_key(run, number)) is None:
            return


def stored_attempts(store: Store, run: str, *, first: int = 1) -> Iterator[tuple[Contents, Record]]:
    """Yield the attempts of a run from `first` on, in order: the seal of each attempt, or its last snapshot if it has no seal."""
    for number in range(first, MOST_ATTEMPTS + 1):
        key = sealed_key(run, number)
        if store.size(key) is not None:
            yield read_sealed(read_small(store, key), run=run, attempt=number, where=f"{key} in {store.label}")
        elif store.size(claim_key(run, number)) is None:
            return
        elif (found := newest_snapshot(store, run, number)) is not None:
            yield found


def pull_run(
    run: str, store: Store, *, runs: Path, largest: int = LARGEST, progress: Progress = SILENT
) -> list[Record]:
    """Download the attempts of `run` from `store` into the folder `runs`, and restore damaged files of attempts that exist there.

    Raise `RunNotFoundError` if the store has no attempt, `DigestMismatchError` if an attempt was altered or has more than `largest` bytes,
    `DocumentError`, `StoreError`, `DiskFullError`.
    """
    found = list(stored_attempts(store, run))
    if not found:
        raise RunNotFoundError(f"run {run} is not in {store.label}", hint="`reprise runs ls` lists the runs in it")
    _pull_all(run, found, store, runs=runs, largest=largest, progress=progress)
    return [record for _, record in found]


def pull_later(folder: Path, store: Store, *, largest: int = LARGEST, progress: Progress = SILENT) -> list[Record]:
    """Download the attempts of the run in `folder` that other machines made, as `pull_run` does, and return their records.

    Attempts that this machine made are not restored. The list is empty if no other machine made an attempt.
    """
    after = len(attempts(folder)) + 1
    elsewhere = {*range(1, after)} - {*recorded_attempts(folder)} | {*pulled_snapshots(folder)}
    stored = stored_attempts(store, folder.name, first=min(elsewhere, default=after))
    found = [item for item in stored if item[1].attempt in elsewhere or item[1].attempt >= after]
    _pull_all(folder.name, found, store, runs=folder.parent, largest=largest, progress=progress)
    return [record for _, record in found]


def _pull_all(
    run: str,
    found: list[tuple[Contents, Record]],
    store: Store,
    *,
    runs: Path,
    largest: int,
    progress: Progress,
) -> None:
    _check_size(run, found, largest)
    _require_one_identity(runs / run, found)
    with disk_faults(runs / run), Root.at(runs, make=True) as root:
        _restore_source(found, store, runs=root, progress=progress)
        for contents, record in found:
            _hold_earlier(root, record, store)
            attempt = f"{run}/{ATTEMPTS}/{record.attempt}"
            if root.stat(attempt) is None:
                _pull(contents, record, store, runs=root, progress=progress)
            elif root.stat(f"{attempt}/{SNAPSHOT}") is not None or _is_only_claimed(root, attempt, record, store):
                with attempt_root(runs / attempt) as folder:
                    _replace(contents, record, store, folder, runs=root, progress=progress)
            elif root.stat(f"{attempt}/{RECORD}") is not None and isinstance(contents, Sealed):
                with attempt_root(runs / attempt) as folder:
                    _restore_record(contents, store, folder, progress=progress)
                    _restore_files(contents, store, folder, runs=root, progress=progress)


def _hold_earlier(runs: Root, record: Record, store: Store) -> None:
    """Reserve the earlier numbers that were claimed but not published, so that probing 1, 2, ... finds the attempt of `record`."""
    number = record.attempt - 1
    while number and runs.stat(f"{record.run}/{ATTEMPTS}/{number}") is None:
        claim = stored_claim(store, record.run, number)
        if claim is not None:
            runs.below(record.run, make=True).close()
            with run_root(runs.path / record.run) as run:
                hold_number(run, number, claim.to_json())
        number -= 1


def _is_only_claimed(runs: Root, attempt: str, record: Record, store: Store) -> bool:
    """Return whether the local attempt has no record, and its claim equals the claim in the store."""
    if runs.stat(f"{attempt}/{RECORD}") is not None:
        return False
    claim = stored_claim(store, record.run, record.attempt)
    return claim is not None and claim_of(runs.path / attempt) == claim.to_json()


def _pull(contents: Contents, record: Record, store: Store, *, runs: Root, progress: Progress) -> None:
    with _temporary_folder(runs, record.run) as temporary:
        with temporary.below(f"{ATTEMPTS}/{record.attempt}", make=True) as attempt:
            _fetch_all(contents, store, attempt, progress=progress)
            if contents.source and runs.stat(f"{record.run}/{ARCHIVE}") is None:
                _fetch_source(contents.source, record, store, temporary)
            key = claim_key(record.run, record.attempt)
            claim = read_claim(read_small(store, key), where=f"{key} in {store.label}")
            attempt.write_whole(CLAIM, claim.to_json())
            _write_documents(contents, store, attempt)
        with suppress(FileExistsError):
            runs.mkdir(record.run)
        with run_root(runs.path / record.run) as run:
            _move_into(temporary, run, attempt=str(record.attempt))


def _write_documents(contents: Contents, store: Store, attempt: Root) -> None:
    """Write the record and the note about its origin. The record of a snapshot is never on disk without its note."""
    if isinstance(contents, Sealed):
        attempt.write_whole(RECORD, contents.record_text())
        attempt.write_whole(PUBLISHED, Published.of(contents, store=store.label).to_json())
        attempt.unlink(SNAPSHOT, missing_ok=True)
    else:
        attempt.write_whole(SNAPSHOT, contents.to_json())
        attempt.write_whole(RECORD, contents.record_text())


def _replace(
    contents: Contents, record: Record, store: Store, attempt: Root, *, runs: Root, progress: Progress
) -> None:
    """Replace, file by file, an attempt that was claimed or pulled while it ran elsewhere with its newest snapshot or sealed files."""
    if contents.source and runs.stat(f"{record.run}/{ARCHIVE}") is None:
        with _temporary_folder(runs, record.run) as temporary, run_root(runs.path / record.run) as run:
            _fetch_source(contents.source, record, store, temporary)
            _rename(temporary, run, ARCHIVE)
    if attempt.stat(SNAPSHOT) is None or attempt.read(SNAPSHOT) != contents.to_json():
        _restore_files(contents, store, attempt, runs=runs, progress=SILENT)
        _write_documents(contents, store, attempt)
        progress.note(f"attempt {record.attempt} of run {record.run}: pulled as it is in {store.label} now")


def _restore_source(found: list[tuple[Contents, Record]], store: Store, *, runs: Root, progress: Progress) -> None:
    """Restore the source bundle of a run that is here if it is missing, or differs from the published bundle; a differing copy is kept.

    Raise `DigestMismatchError` if it differs, and no note of publication shows that the bundle in the store is the published one.
    """
    contents, record = next(((each, record) for each, record in found if each.source), (None, None))
    if contents is None or record is None or contents.source is None:
        return
    folder = runs.path / record.run
    local = source_of(folder)
    if local is None and not recorded_attempts(folder):  # the source comes with the first attempt
        return
    if local is not None and local.sha256 == contents.source.sha256:
        return
    if local is not None and not any(_is_published(folder, each, record) for each, record in found):
        message = f"the attempts of run {record.run} have 2 source bundles, {local.sha256}, {contents.source.sha256}; expected one"
        raise DigestMismatchError(
            message, hint=f"if the local bundle is damaged, remove {folder / ARCHIVE} and pull again"
        )
    with _temporary_folder(runs, record.run) as temporary, run_root(folder) as run:
        _fetch_source(contents.source, record, store, temporary)
        if local is not None:
            run.rename(ARCHIVE, EDITED_ARCHIVE)
        _rename(temporary, run, ARCHIVE)
    kept = "" if local is None else f"; the bundle that was here is kept as {EDITED_ARCHIVE}"
    progress.note(f"restored: {folder / ARCHIVE}{kept}")


def _is_published(folder: Path, contents: Contents, record: Record) -> bool:
    """Return whether the local note of publication names this seal."""
    note = read_publication(folder / ATTEMPTS / str(record.attempt))
    return note is not None and note.sealed == digest_of_bytes(contents.to_json())


def _restore_record(sealed: Sealed, store: Store, attempt: Root, *, progress: Progress) -> None:
    """Restore the published record if it was edited here, and keep the edited copy.

    Raise `DigestMismatchError` if the seal in the store changed since the publication, or if the record differs and the attempt has no note
    of publication.
    """
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


def _restore_files(contents: Contents, store: Store, attempt: Root, *, runs: Root, progress: Progress) -> None:
    """Restore each file of an attempt that is missing or differs from `contents`. Each file is replaced atomically."""
    damaged = [file for file in contents.files if fault_of(attempt, file)]
    with _temporary_folder(runs, attempt.path.parents[1].name) as temporary:
        for file in damaged:
            _fetch_file(store, file, temporary)
            if parent := file.path.rpartition("/")[0]:
                attempt.below(parent, make=True).close()
            temporary.rename(file.path, file.path, to=attempt)
            progress.note(f"restored: {attempt.path / file.path}")


def _fetch_all(contents: Contents, store: Store, attempt: Root, *, progress: Progress) -> None:
    progress.begin(f"run {contents.record['run']}", sum(file.size for file in contents.files))
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for size in pool.map(lambda file: _fetch_file(store, file, attempt), contents.files):
                progress.advance(size)
    finally:
        progress.end()


def _fetch_file(store: Store, file: File, attempt: Root) -> int:
    read_file(store, file, into=attempt)
    return file.size


def _fetch_source(file: File, record: Record, store: Store, folder: Root) -> None:
    """Download the source bundle, which stays packed until its code is trusted. Raise `DigestMismatchError` if it is not as recorded."""
    read_file(store, file.model_copy(update={"path": ARCHIVE}), into=folder)
    bundle = read_archive(folder.path / ARCHIVE)
    if bundle.digest != record.ingredients.source:
        message = (
            f"the source bundle of run {record.run} is {bundle.digest}; its record names {record.ingredients.source}"
        )
        raise DigestMismatchError(message, hint="the bundle was altered: ask the author of the run for a new copy")


@contextmanager
def _temporary_folder(runs: Root, run: str) -> Iterator[Root]:
    """Yield a temporary folder beside the run's folder, and remove it on exit."""
    name = f".{run}.{token_hex(4)}{PARTIAL}"
    runs.mkdir(name, mode=0o755)
    try:
        with runs.below(name) as folder:
            yield folder
    finally:
        with suppress(OSError):
            runs.remove_tree(name)


def _move_into(folder: Root, run: Root, *, attempt: str) -> None:
    """Move the fetched files to their final names, the attempt last. Another process may have pulled equal files in the meantime."""
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


def _require_one_identity(folder: Path, found: list[tuple[Contents, Record]]) -> None:
    """Raise `DigestMismatchError` unless the local and the published attempts have one identity, and the published ones one source."""
    identities = {record.identity for _, record in found}
    identities |= set(_identities(folder))
    if len(identities) > 1:
        message = f"the attempts of run {folder.name} have {len(identities)} identities, {', '.join(sorted(identities))}; expected one"
        raise DigestMismatchError(
            message, hint="an attempt was altered or forged: delete the run, or ask its author for a new copy"
        )
    sources = {contents.source.sha256 for contents, _ in found if contents.source}
    if len(sources) > 1:
        message = f"the attempts of run {folder.name} have {len(sources)} source bundles, {', '.join(sorted(sources))}; expected one"
        raise DigestMismatchError(message, hint="an attempt was altered or forged: ask its author for a new copy")


def _identities(folder: Path) -> Iterator[str]:
    """Yield the identities of the local attempts; edited records are skipped, since they are restored."""
    for number in recorded_attempts(folder):
        with suppress(DigestMismatchError):
            yield record_of(folder, number).identity


def _check_size(run: str, found: list[tuple[Contents, Record]], largest: int) -> None:
    size = sum(contents.size for contents, _ in found)
    if size > largest:
        message = f"run {run} has {size / (1 << 30):.1f} GiB; expected at most {largest / (1 << 30):.1f} GiB"
        raise DigestMismatchError(message, hint=f"to pull it: --max-bytes {size}")
