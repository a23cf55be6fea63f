"""Rerun a record in a container, with the source, image and settings that the record names, in a new run folder.

The record's code is not trusted: the container has no network, no credentials, no access to other runs and no path that the record chose,
and the new run's files are checked before they are used.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError, RunError, UnsafePathError
from trainer.base.safe_folder import Root, run_root
from trainer.comparison.rerun import RerunArguments, rerun_arguments
from trainer.data.cache import CACHE_LIMIT
from trainer.environments.engine import IsolatedContainer, Mount
from trainer.launch.container import container_name, describe_image
from trainer.runs.image_claim import write_observed_image
from trainer.runs.image_file import RUN_VARIABLE
from trainer.runs.initial_weights import stage_again, stage_parent
from trainer.runs.open_run import files_of
from trainer.runs.run import ATTEMPTS, abandon, attempts, new_run, record_of
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
_DISTRUST: Final = "the files of the rerun were altered: delete its folder, and run the same command again"
CACHE: Final = "/cache"
"""The path of the run's own cache, empty at the start, since the layout of a cache differs between versions."""
STORE: Final = "/store"
"""The path of a store that contains only the run's datasets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRerun:
    """The inputs of a rerun on disk."""

    original: Record
    run: str
    folder: Path
    """The new run's folder."""
    source: Path
    settings: Path
    store: Path
    """The folder of a store for the datasets."""
    cache: Path
    arguments: RerunArguments
    resumes: bool = False
    """Whether `run` exists and is resumed."""
    more: tuple[str, ...] = ()
    """Additional options for a resumed run."""

    @property
    def is_rerun(self) -> bool:
        """Whether `run` is a rerun of `original`, not `original` itself, resumed."""
        return self.run != self.original.run

    def words(self, settings: str = SETTINGS) -> tuple[str, ...]:
        """Return the arguments of `reprise`; `settings` is the path of the settings file, by default the path in the container."""
        return ("train", f"--resume={self.run}", *self.more) if self.resumes else tuple(self.arguments.words(settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraAccess:
    """Additional access that the user granted to a container explicitly."""

    network: str = "none"
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSettings:
    """The image, user and access of a container."""

    image: ImageFacts
    uid: int
    gid: int
    host: str
    access: ExtraAccess = ExtraAccess()
    cache_limit: str = ""
    """The size limit of the rerun's own cache, which does not affect the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentSource:
    """The source of a rerun's initial weights."""

    folder: Path
    """The folder of the run `parent` or, without `parent`, of the original run, whose attempt has a copy of the weights."""
    parent: Record | None = None
    """The record of the run whose weights replace the original's initial weights; `None` if the original's are used."""

    def stage(self, record: Record, *, into: Path) -> None:
        """Copy the weights into the folder of a new run, and verify them."""
        if self.parent is not None:
            stage_parent(self.folder, self.parent, into=into)
        else:
            stage_again(self.folder / ATTEMPTS / str(record.attempt), record, into=into)


@contextmanager
def prepare_rerun(
    record: Record,
    bundle: SourceBundle,
    *,
    runs: Path,
    initial: ParentSource | None = None,
    existing: Path | None = None,
    resumes: bool = False,
    more: tuple[str, ...] = (),
) -> Iterator[PreparedRerun]:
    """Create a run folder, or use `existing`, and write the source and the settings file next to it.

    If `resumes` is true, the run in `existing` is resumed; otherwise the initial weights of a run with a parent are copied from `initial`.
    On exit, the source and the settings are removed, as is a run without a record.
    """
    arguments = rerun_arguments(record)
    run, folder = (existing.name, existing) if existing else new_run(runs)
    inputs = runs / f".{run}.{token_hex(4)}.retest"
    paths = {name: inputs / name for name in ("source", "store", "cache")}
    try:
        with disk_faults(inputs), Root.at(runs) as root:
            for path in (inputs, paths["store"], paths["cache"]):
                name = str(path.relative_to(runs))
                root.mkdir(name)
                root.chmod(name, 0o755)
            lay_out(bundle, paths["source"])
            root.write_whole(f"{inputs.name}/settings.toml", arguments.file())
        if initial is not None and not resumes and record.ingredients.initial_weights is not None:
            initial.stage(record, into=folder)
        yield PreparedRerun(
            original=record,
            run=run,
            folder=folder,
            settings=inputs / "settings.toml",
            arguments=arguments,
            resumes=resumes,
            more=more,
            **paths,
        )
    finally:
        with suppress(OSError, UnsafePathError), Root.at(runs) as root:
            root.remove_tree(inputs.name)
        abandon(folder)


def run_confined(
    prepared: PreparedRerun, *, container: ContainerSettings, engine: Engine, say: Callable[[str], None]
) -> int:
    """Run `prepared` in an isolated container, and return the exit code of the command."""
    definition = _definition(prepared, container)
    write_observed_image(prepared.folder, describe_image(container.image, container=definition.name, engine=engine))
    change_owner(prepared, uid=container.uid, gid=container.gid)
    return engine.confine(definition, say=say)


def change_owner(prepared: PreparedRerun, *, uid: int, gid: int) -> None:
    """If this process is root, give the files that the container writes to the container's user."""
    if os.getuid() == 0:
        with disk_faults(prepared.folder), Root.at(prepared.folder.parent) as runs:
            run = prepared.folder.name
            with runs.below(run) as folder:
                files = [f"{run}/{name}" for name in folder.names()]
            inputs = [f"{path.parent.name}/{path.name}" for path in (prepared.store, prepared.cache)]
            for path in (*inputs, run, *files):
                runs.chown(path, uid, gid)


def _definition(prepared: PreparedRerun, container: ContainerSettings) -> IsolatedContainer:
    """Return the definition of the container. No path comes from the record, and no shell parses the arguments."""
    return IsolatedContainer(
        name=container_name(prepared.run),
        image=container.image.id,
        words=prepared.words(),
        variables={
            "REPRISE_RUNS": RUNS,
            "REPRISE_CACHE": CACHE,
            "REPRISE_STORE": STORE,
            "REPRISE_HOST": container.host,
            RUN_VARIABLE: prepared.run,
            CONFINED: "1",
            **({RETEST: prepared.original.run} if prepared.is_rerun else {}),
            **({CACHE_LIMIT: container.cache_limit} if container.cache_limit else {}),
            **container.access.variables,
        },
        mounts=(
            Mount(source=prepared.source, target=PROJECT),
            Mount(source=prepared.settings, target=SETTINGS),
            Mount(source=prepared.store, target=STORE),
            Mount(source=prepared.cache, target=CACHE, writable=True),
            Mount(source=prepared.folder, target=f"{RUNS}/{prepared.run}", writable=True),
            *container.access.mounts,
        ),
        network=container.access.network,
        user=f"{container.uid}:{container.gid}",
        gpus=prepared.original.ingredients.device.accelerator == "cuda",
    )


def load_rerun_record(new: Path) -> Record:
    """Return the record of the new run in a folder, after checking that all files are regular files and match the record.

    Raise `RunError` if the run has no record, `DigestMismatchError` if a check fails, `DocumentError` if the record is invalid.
    """
    with run_root(new) as folder:
        for path, status in folder.walk():
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                message = f"the rerun created {new / path}, which is neither a file nor a folder"
                raise DigestMismatchError(message, hint=_DISTRUST)
    if not attempts(new):
        raise RunError("the rerun ended before its record was opened", hint="see the output above")
    record = record_of(new)
    if record.run != new.name:
        raise DigestMismatchError(f"the rerun's record names run {record.run}; expected {new.name}", hint=_DISTRUST)
    attempt = new / "attempts" / str(record.attempt)
    if _without_log(record.outcome.files) != _without_log(files_of(attempt)):
        raise DigestMismatchError(f"{attempt} contains files that do not match its record", hint=_DISTRUST)
    return record


def _without_log(files: list[File]) -> list[File]:
    """Return the files without the log, which may grow after the record is closed."""
    return [file for file in files if file.path != "log.txt"]
