"""Running a record again: the source it names, the image it names, the settings it holds, in a folder of its own.

Knows what a container is given, and what of a run that a stranger's code made is believed afterwards. Refuses to give it a network,
a credential, another run, or a path of its own choosing; and to compare.
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
"""Where every image expects the source."""
RUNS: Final = "/runs"
SETTINGS: Final = "/run/reprise/settings.toml"
CACHE: Final = "/cache"
"""The run's own, empty: how a cache is laid out differs between versions."""
STORE: Final = "/store"
"""A store that holds the run's datasets and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that a retest starts from, on this machine's disk."""

    original: Record
    run: str
    folder: Path
    """The new run's."""
    source: Path
    settings: Path
    store: Path
    """A folder for the datasets."""
    cache: Path
    again: Rerun
    resumes: bool = False
    """Whether the run is there already, and goes on."""
    more: tuple[str, ...] = ()
    """Options of a resumed run that were given anew."""

    @property
    def words(self) -> tuple[str, ...]:
        """What is typed in the container."""
        return ("train", f"--resume={self.run}", *self.more) if self.resumes else tuple(self.again.words(SETTINGS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a container gets beside what every retest gets, since the user granted it by name."""

    network: str = "none"
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a container is given of this machine."""

    image: ImageFacts
    uid: int
    gid: int
    host: str
    granted: Granted = Granted()


@contextmanager
def prepared(
    record: Record, bundle: SourceBundle, *, runs: Path, resumes: Path | None = None, more: tuple[str, ...] = ()
) -> Iterator[Prepared]:
    """A new run's folder, or the one of the run that `resumes`, and beside it the source and the settings file.

    These are gone afterwards; so is a run without a record.
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
    """Run it in a container of the recorded image that is trusted with nothing, and return how that ended."""
    container = f"reprise-{ready.run}"
    write_seen(ready.folder, seen(container, place.image, engine=engine))
    give(ready, uid=place.uid, gid=place.gid)
    return engine.confine(confined(container, ready, place), say=say)


def give(ready: Prepared, *, uid: int, gid: int) -> None:
    """Give what containers write to their user, where this one is root."""
    if os.getuid() == 0:
        with disk_faults(ready.folder), Root.at(ready.folder.parent) as runs:
            run = ready.folder.name
            with runs.below(run) as folder:
                given = [f"{run}/{name}" for name in folder.names()]
            aside = ready.store.parent.name
            for path in (f"{aside}/{ready.store.name}", f"{aside}/{ready.cache.name}", run, *given):
                runs.chown(path, uid, gid)


def confined(container: str, ready: Prepared, place: Place) -> IsolatedContainer:
    """The container: every path in it is ours, and of the record there is one word an option, which no shell reads."""
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
    """What the engine says of the image that the container is made of."""
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
    """The record of the run that came of it, once what it left is known to be what it says, and files only.

    Raises `RunError` where it left none, `DigestMismatchError`, `DocumentError`.
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
    """A log may have grown since its record was closed."""
    return [file for file in files if file.path != "log.txt"]
