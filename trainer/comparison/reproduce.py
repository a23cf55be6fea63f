"""Run a record again in a container: with the source, image and settings that the record names, in a new run folder.

The record's code is not trusted: the container has no network, no credentials, no other run and no path that the record chose, and the new
run's files are checked before they are used.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import is_digest
from trainer.base.errors import DigestMismatchError, RunError, UnsafePathError
from trainer.base.safe_folder import Root, run_root
from trainer.comparison.rerun import Rerun
from trainer.comparison.rerun import rerun as words_of
from trainer.environments.engine import IsolatedContainer, Mount
from trainer.launch.watch import BUILD_ID
from trainer.runs.image_claim import WATCHED, SeenImage, write_seen
from trainer.runs.run import abandon, attempts, files_of, new_run, record_of
from trainer.settings.fields import CONFINED, RETEST
from trainer.source.copy import lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from trainer.base.file_entry import File
    from trainer.environments.engine import Engine, ImageFacts
    from trainer.runs.record import Record
    from trainer.source.capture import SourceBundle

PROJECT: Final = "/project"
"""The path of the source in every image."""
RUNS: Final = "/runs"
SETTINGS: Final = "/run/reprise/settings.toml"
CACHE: Final = "/cache"
"""The run's own cache, empty: the layout of a cache differs between versions."""
STORE: Final = "/store"
"""A store that contains the run's datasets only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The inputs of a retest on this machine's disk."""

    original: Record
    run: str
    folder: Path
    """The new run's folder."""
    source: Path
    settings: Path
    store: Path
    """A folder for the datasets."""
    cache: Path
    again: Rerun
    resumes: bool = False
    """Whether the run exists and is resumed."""
    more: tuple[str, ...] = ()
    """New values of options for a resumed run."""

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of the command in the container."""
        return ("train", f"--resume={self.run}", *self.more) if self.resumes else tuple(self.again.words(SETTINGS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The additional access of a container that the user granted explicitly."""

    network: str = "none"
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The resources of this machine that a container gets."""

    image: ImageFacts
    uid: int
    gid: int
    host: str
    granted: Granted = Granted()


@contextmanager
def prepared(
    record: Record, bundle: SourceBundle, *, runs: Path, resumes: Path | None = None, more: tuple[str, ...] = ()
) -> Iterator[Prepared]:
    """Create a new run's folder, or use the folder `resumes`, and write the source and the settings file next to it.

    Source and settings are removed on exit, as is a run without a record.
    """
    again = words_of(record)
    run, folder = (resumes.name, resumes) if resumes else new_run(runs)
    aside = runs / f".{run}.{token_hex(4)}.retest"
    try:
        with disk_faults(aside), Root.at(runs) as root:
            for place in (aside.name, f"{aside.name}/store", f"{aside.name}/cache"):
                root.mkdir(place)
                root.chmod(place, 0o755)
            lay_out(bundle, aside / "source")
            root.write_whole(f"{aside.name}/settings.toml", again.file())
        yield Prepared(
            original=record,
            run=run,
            folder=folder,
            source=aside / "source",
            settings=aside / "settings.toml",
            store=aside / "store",
            cache=aside / "cache",
            again=again,
            resumes=resumes is not None,
            more=more,
        )
    finally:
        with suppress(OSError, UnsafePathError), Root.at(runs) as root:
            root.remove_tree(aside.name)
        abandon(folder)


def run_confined(ready: Prepared, *, place: Place, engine: Engine, say: Callable[[str], None]) -> int:
    """Run the command in an isolated container of the recorded image, and return its exit code."""
    container = f"reprise-{ready.run}"
    write_seen(ready.folder, seen(container, place.image, engine=engine))
    give(ready, uid=place.uid, gid=place.gid)
    return engine.confine(confined(container, ready, place), say=say)


def give(ready: Prepared, *, uid: int, gid: int) -> None:
    """If this process is root, change the owner of the files that the container writes to the container's user."""
    if os.getuid() == 0:
        with disk_faults(ready.folder), Root.at(ready.folder.parent) as runs:
            run = ready.folder.name
            with runs.below(run) as folder:
                given = [f"{run}/{name}" for name in folder.names()]
            aside = ready.store.parent.name
            for path in (f"{aside}/{ready.store.name}", f"{aside}/{ready.cache.name}", run, *given):
                runs.chown(path, uid, gid)


def confined(container: str, ready: Prepared, place: Place) -> IsolatedContainer:
    """Return the container's definition: no path comes from the record, and each option is one argument, without a shell."""
    return IsolatedContainer(
        name=container,
        image=place.image.id,
        words=ready.words,
        variables={
            "REPRISE_RUNS": RUNS,
            "REPRISE_CACHE": CACHE,
            "REPRISE_STORE": STORE,
            "REPRISE_HOST": place.host,
            WATCHED: ready.run,
            CONFINED: "1",
            **({} if ready.resumes else {RETEST: ready.original.run}),
            **place.granted.variables,
        },
        mounts=(
            Mount(source=ready.source, target=PROJECT),
            Mount(source=ready.settings, target=SETTINGS),
            Mount(source=ready.store, target=STORE),
            Mount(source=ready.cache, target=CACHE, writable=True),
            Mount(source=ready.folder, target=f"{RUNS}/{ready.run}", writable=True),
            *place.granted.mounts,
        ),
        network=place.granted.network,
        user=f"{place.uid}:{place.gid}",
        gpus=ready.original.ingredients.device.accelerator == "cuda",
    )


def seen(container: str, image: ImageFacts, *, engine: Engine) -> SeenImage:
    """Return the engine's description of the container's image."""
    digests, build_id = engine.digests(image), image.labels.get(BUILD_ID, "")
    return SeenImage(
        container=container,
        reference=image.references[0] if image.references else image.id,
        manifest=digests.manifest,
        config=digests.config,
        build_id=build_id if is_digest(build_id) else None,
        layers=list(image.layers),
    )


def left(ready: Prepared) -> Record:
    """Return the new run's record, after checking that its files are regular files and match the record.

    Raise `RunError` if there is no record, `DigestMismatchError`, `DocumentError`.
    """
    with run_root(ready.folder) as folder:
        for path, found in folder.walk():
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                said = f"the retest left {ready.folder / path}, which is no file and no folder"
                raise DigestMismatchError(said, hint="do not use it")
    if not attempts(ready.folder):
        raise RunError("the retest ended before its record was open", hint="the lines above say why")
    record = record_of(ready.folder)
    if record.run != ready.run:
        raise DigestMismatchError(f"the retest calls itself {record.run}; it is {ready.run}", hint="do not use it")
    place = ready.folder / "attempts" / str(record.attempt)
    if _without_log(record.outcome.files) != _without_log(files_of(place)):
        raise DigestMismatchError(f"{place} holds other files than its record lists", hint="do not use it")
    return record


def _without_log(files: list[File]) -> list[File]:
    """Return the files without the log, which may grow after the record is closed."""
    return [file for file in files if file.path != "log.txt"]
