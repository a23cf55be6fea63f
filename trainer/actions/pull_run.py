"""Pulling a run: its attempts by id from a store, verified, each there whole or not at all.

Knows how attempts are found (probing 1, 2, ..., never by listing). Refuses to write what a seal has no right to ask
for: a path that leaves the run's folder, more bytes than were agreed to, a source that is not the one the record
names.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.actions.progress import SILENT, Progress
from trainer.actions.run import (
    ATTEMPTS,
    CLAIM,
    PUBLISHED,
    RECORD,
    attempt_root,
    attempts,
    load_record,
    published,
)
from trainer.actions.transfer import read_file, read_small
from trainer.actions.verify_run import fault_of
from trainer.beneath import Root, run_root
from trainer.digest import digest_of_bytes, digest_of_file
from trainer.errors import AlteredError, RunNotFoundError
from trainer.host.atomic import disk_faults, write_whole
from trainer.host.source import ARCHIVE, thaw
from trainer.plain_text import read_bytes
from trainer.record import MOST_ATTEMPTS
from trainer.seal import Published, claim_key, read_claim, read_sealed, sealed_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.record import File, Record
    from trainer.seal import Sealed
    from trainer.store.contract import Store

EDITED: Final = "record.edited.json"
"""Beside a record that was edited after its publication and then restored."""
LARGEST = 100 << 30
"""Bytes of a run that are pulled without being asked twice."""
_AT_ONCE = 8


def sealed_attempts(store: Store, run: str) -> Iterator[tuple[Sealed, Record]]:
    """The published attempts of a run, in order; one that was claimed and never sealed is passed over."""
    for number in range(1, MOST_ATTEMPTS + 1):
        key = sealed_key(run, number)
        if store.size(key) is not None:
            yield read_sealed(read_small(store, key), run=run, attempt=number, where=f"{key} in {store.label}")
        elif store.size(claim_key(run, number)) is None:
            return


def pull_run(
    run: str, store: Store, *, runs: Path, largest: int = LARGEST, progress: Progress = SILENT
) -> list[Record]:
    """Bring the attempts of `run` that are in `store` below the folder `runs`; of those that are there, what was damaged.

    Raises `RunNotFoundError`, `AlteredError`, `DocumentError`, `StoreError` and its kinds, `DiskFullError`.
    """
    found = list(sealed_attempts(store, run))
    if not found:
        raise RunNotFoundError(f"run {run} is not in {store.label}", hint="`reprise runs ls` lists what is")
    _check_size(run, found, largest)
    _check_same(runs / run, found)
    with disk_faults(runs):
        runs.mkdir(parents=True, exist_ok=True)
    for sealed, record in found:
        here = runs / run / ATTEMPTS / str(record.attempt)
        if record.attempt not in attempts(runs / run):
            _pull(sealed, record, store, runs=runs, progress=progress)
        elif (here / RECORD).exists():
            _restore_record(sealed, store, here, progress=progress)
            _restore_files(sealed, store, here, progress=progress)
    return [record for _, record in found]


def _pull(sealed: Sealed, record: Record, store: Store, *, runs: Path, progress: Progress) -> None:
    with _aside(runs, record.run) as place:
        attempt = place / ATTEMPTS / str(record.attempt)
        with disk_faults(attempt):
            attempt.mkdir(parents=True)
        _fetch_all(sealed, store, attempt, progress=progress)
        if sealed.source and not (runs / record.run / ARCHIVE).exists():
            _source(sealed.source, record, store, place)
        key = claim_key(record.run, record.attempt)
        write_whole(attempt / CLAIM, read_claim(read_small(store, key), where=f"{key} in {store.label}").to_json())
        note = Published.of(sealed, store=store.label)
        write_whole(attempt / PUBLISHED, note.to_json())
        write_whole(attempt / RECORD, sealed.record_text())
        _appear(place, runs / record.run)


def _restore_record(sealed: Sealed, store: Store, here: Path, *, progress: Progress) -> None:
    """Put the published record back if it was edited here; raise `AlteredError` if the store's seal is another one than was published."""
    note, seal = published(here), digest_of_bytes(sealed.to_json())
    if note is not None and note.sealed != seal:
        said = f"the seal of {here.parents[1].name} in {store.label} was changed after the run was published"
        raise AlteredError(
            f"{said}: published was {note.sealed[:19]}.., found {seal[:19]}..",
            hint="the run here is the published one: keep it, and find out who can write to that store",
        )
    if read_bytes(here / RECORD) == sealed.record_text():
        return
    if note is None:
        said = f"attempt {here.name} of run {here.parents[1].name} here is not the one in {store.label}"
        raise AlteredError(
            said, hint="nothing was changed; to see the other, pull it into another folder: REPRISE_RUNS"
        )
    with disk_faults(here), attempt_root(here) as attempt:
        attempt.rename(RECORD, EDITED)
        attempt.write_whole(RECORD, sealed.record_text())
    progress.note(f"restored: {here / RECORD}; the edited record is kept as {EDITED}")


def _restore_files(sealed: Sealed, store: Store, here: Path, *, progress: Progress) -> None:
    """Put back, whole or not at all, each file of an attempt that is gone or is not what the seal says."""
    bad = [file for file in sealed.files if fault_of(here / file.path, file)]
    with _aside(here.parents[2], here.parents[1].name) as place:
        for file in bad:
            _fetched(store, file, place)
            with disk_faults(here / file.path), Root.at(place) as aside, attempt_root(here) as attempt:
                if above := file.path.rpartition("/")[0]:
                    attempt.below(above, make=True).close()
                aside.rename(file.path, file.path, to=attempt)
            progress.note(f"put back: {here / file.path}")


def _fetch_all(sealed: Sealed, store: Store, attempt: Path, *, progress: Progress) -> None:
    progress.begin(f"run {sealed.record['run']}", sum(file.size for file in sealed.files))
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for size in pool.map(lambda file: _fetched(store, file, attempt), sealed.files):
                progress.advance(size)
    finally:
        progress.end()


def _fetched(store: Store, file: File, attempt: Path) -> int:
    read_file(store, file, into=attempt)
    return file.size


def _source(file: File, record: Record, store: Store, place: Path) -> None:
    """Fetch the bundle under our own name for it. It stays an archive: nothing of a source lies about before it is trusted."""
    read_file(store, file.model_copy(update={"path": ARCHIVE}), into=place)
    bundle = thaw(place / ARCHIVE)
    if bundle.digest != record.ingredients.source:
        said = f"the source bundle of run {record.run} is {bundle.digest}; its record names {record.ingredients.source}"
        raise AlteredError(said, hint="do not use it")


@contextmanager
def _aside(runs: Path, run: str) -> Iterator[Path]:
    """A folder beside the run's, where a pull can fail without a trace."""
    with disk_faults(runs):
        place = Path(tempfile.mkdtemp(dir=runs, prefix=f".{run}.", suffix=".partial"))
        place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _appear(place: Path, folder: Path) -> None:
    """Rename what was fetched to where it belongs, the attempt last; what another process brought meanwhile is the same."""
    with disk_faults(folder):
        folder.mkdir(exist_ok=True)
        with Root.at(place) as aside, run_root(folder) as run:
            run.below(ATTEMPTS, make=True).close()
            if aside.stat(ARCHIVE) is not None and run.stat(ARCHIVE) is None:
                aside.rename(ARCHIVE, ARCHIVE, to=run)
            for attempt in (place / ATTEMPTS).iterdir():
                _renamed(aside, run, f"{ATTEMPTS}/{attempt.name}")


def _renamed(aside: Root, run: Root, path: str) -> None:
    try:
        aside.rename(path, path, to=run)
    except OSError:
        if run.stat(path) is None:
            raise
        run.below(path).close()  # another process brought the same; what is no folder raises UnsafePathError


def _check_same(folder: Path, found: list[tuple[Sealed, Record]]) -> None:
    """Hold all attempts, those that are here and those that come, to one identity and one source."""
    here = [folder / ATTEMPTS / str(number) / RECORD for number in attempts(folder)]
    identities = {record.identity for _, record in found}
    identities |= set(_identities(path for path in here if path.exists()))
    if len(identities) > 1:
        said = f"the attempts of run {folder.name} are of {len(identities)} identities: {', '.join(sorted(identities))}"
        raise AlteredError(said, hint="attempts of one run have the same ingredients: somebody made one up")
    sources = {sealed.source.sha256 for sealed, _ in found if sealed.source}
    if (folder / ARCHIVE).is_file():
        sources.add(digest_of_file(folder / ARCHIVE))
    if len(sources) > 1:
        said = f"the attempts of run {folder.name} have {len(sources)} source bundles: {', '.join(sorted(sources))}"
        raise AlteredError(said, hint=f"if it is damaged here, remove {folder / ARCHIVE} and pull again")


def _identities(records: Iterable[Path]) -> Iterator[str]:
    """The identities of the attempts here; a record that was edited is restored, and is no evidence."""
    for path in records:
        with suppress(AlteredError):
            yield load_record(path).identity


def _check_size(run: str, found: list[tuple[Sealed, Record]], largest: int) -> None:
    size = sum(sealed.size for sealed, _ in found)
    if size > largest:
        said = f"run {run} has {size / (1 << 30):.1f} GiB; expected at most {largest / (1 << 30):.1f} GiB"
        raise AlteredError(said, hint="if that is right, pull it with --at-most GIB")
