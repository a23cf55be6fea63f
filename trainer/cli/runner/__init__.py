"""Runners of a recorded run: a container of the recorded image, started from the host, or a process in this environment."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from shutil import disk_usage
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.errors import DriftError, ImageMismatchError
from trainer.cli.configuration import CHECKOUT, cache_folder, configured_store, host_name, runs_folder
from trainer.cli.fetch import export_datasets
from trainer.cli.process.attempt import BAKED_INVENTORY
from trainer.comparison.examine_run import MachineResources
from trainer.comparison.rerun import image_name
from trainer.data.cache import CACHE_LIMIT
from trainer.data.cache.folder import Cache
from trainer.environments import installed_files
from trainer.environments.inventory import distributions, import_roots, live
from trainer.launch.contract import IMAGE_VARIABLES, CommandRequest
from trainer.launch.process import ProcessCommand, ProcessLauncher
from trainer.runs.hardware import read_host
from trainer.runs.identify import drifted
from trainer.runs.image_claim import claim_image
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.record import Knowledge
from trainer.settings.fields import RETEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trainer.comparison.reproduce import PreparedRerun
    from trainer.data.declaration import Dataset
    from trainer.environments.engine import Engine
    from trainer.runs.record import Record


class Runner(ABC):
    """Reruns a recorded run."""

    how: Literal["container", "here"]
    is_isolated: bool
    """Whether the recorded code can access only its run's folder and the resources that the user granted."""
    isolation: str
    """The resources that the recorded code can access, for messages."""

    engine: Engine | None = None
    """`None` if the rerun is a process in this environment, not in a new container."""

    def machine(self) -> MachineResources:
        """Return the engine, the store, the cache and the hardware of this machine."""
        runs = runs_folder()
        return MachineResources(
            engine=self.engine,
            open_store=configured_store,
            cached=self.is_cached,
            host=read_host(name=host_name()),
            free=disk_usage(runs if runs.is_dir() else CHECKOUT).free,
        )

    def not_equal(self, record: Record) -> list[str]:
        """Return the differences between this environment and the record, one per line; none for a container of the recorded image."""
        del record
        return []

    @abstractmethod
    def is_cached(self, dataset: Dataset) -> bool:
        """Return whether the cache has all of a dataset."""

    @abstractmethod
    def altered(self, record: Record) -> tuple[int, list[str]]:
        """Return how many installed files match the digests of their distributions, and a line for each that does not."""

    @abstractmethod
    def provide_datasets(self, datasets: Sequence[Dataset], ready: PreparedRerun) -> None:
        """Fetch datasets with the current code, and provide them to the rerun."""

    @abstractmethod
    def run(self, ready: PreparedRerun) -> tuple[int, Knowledge]:
        """Execute the rerun; return the exit status, and how well the identity of its image is known."""

    @abstractmethod
    def kill(self, ready: PreparedRerun) -> None:
        """Kill the rerun, from another thread."""


def choose_runner(record: Record, *, in_process: bool, granted: frozenset[str] = frozenset()) -> Runner:
    """Return the runner of a record, with the user's grants.

    Raise `ImageMismatchError` in a container of another image, `DriftError` in a container that has drifted from its image.
    """
    if in_process or IMAGE_FILE.exists():
        if not in_process:
            check_image(record)
            check_drift(process_drift())
        return ProcessRunner(recorded=not in_process)
    from trainer.cli.runner.container import ContainerRunner

    return ContainerRunner(granted)


def is_recorded(record: Record, environ: Mapping[str, str], *, baked: Path = IMAGE_FILE) -> bool:
    """Return whether this process runs in the recorded image, according to the environment variables and the image itself.

    If a user sets only REPRISE_IMAGE, the build ID in the image must be the recorded build ID.
    """
    name, claim = image_name(record), claim_image(environ, baked=baked)
    if claim.image.known is not Knowledge.UNKNOWN:
        return claim.layers == name.layers
    build_id = claim.image.build_id
    manifest = environ.get("REPRISE_IMAGE", "").rpartition("@")[2]
    return build_id is not None and build_id == record.circumstances.image.build_id and manifest == name.manifest


def check_image(record: Record) -> None:
    """Raise `ImageMismatchError` in a container of a different image than the recorded image."""
    if is_recorded(record, os.environ):
        return
    name = image_name(record)
    current = os.environ.get("REPRISE_IMAGE") or "an unnamed image"
    recorded = name.reference or name.manifest or name.config
    message = f"run {record.run} ran in {recorded}; this is {current}"
    line = f"REPRISE_IMAGE={recorded} docker compose run --rm train reproduce {record.run}"
    raise ImageMismatchError(message, hint=f"type on the host: scripts/reprise reproduce {record.run}; or: {line}")


def check_drift(lines: list[str]) -> None:
    """Raise `DriftError` with the first line if this process has drifted from its image."""
    if lines:
        others = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        message = f"this environment has drifted from its image: {lines[0]}{others}"
        raise DriftError(message, hint="start a new container, or use --no-container, which lists the differences")


_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    CACHE_LIMIT,
)


class ProcessRunner(Runner):
    """Reruns in the environment of this process."""

    how = "here"
    is_isolated = False
    isolation = "this user's own process: it can reach this machine's network and this user's files"

    def __init__(self, *, recorded: bool = False) -> None:
        """Create the runner; `recorded` states that this environment is the recorded image."""
        self._recorded = recorded
        self._training = ProcessCommand(None)

    def is_cached(self, dataset: Dataset) -> bool:
        """Return whether this process's cache has all of a dataset."""
        return Cache(root=cache_folder()).has(dataset)

    def not_equal(self, record: Record) -> list[str]:
        """Return differences of image and packages from the record, and the drift of this process."""
        return [*_differences(record), *process_drift()]

    def altered(self, record: Record) -> tuple[int, list[str]]:
        """Hash every installed file of this environment."""
        del record
        return installed_files.altered(import_roots())

    def provide_datasets(self, datasets: Sequence[Dataset], ready: PreparedRerun) -> None:
        """Fetch datasets in this process."""
        export_datasets(datasets, into=ready.store)

    def run(self, ready: PreparedRerun) -> tuple[int, Knowledge]:
        """Run the rerun with this Python, and with only the environment variables that it needs."""
        environ = _variables(ready, os.environ, recorded=self._recorded)
        launcher = ProcessLauncher(source=ready.source, folder=ready.source, environ=environ)
        request = CommandRequest(words=ready.words(str(ready.settings)), run=ready.folder)
        self._training = launcher.start(request, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        try:
            return self._training.wait(), claim_image(os.environ).image.known
        except BaseException:  # let the process close its record
            self._training.send_signal(signal.SIGTERM)
            self._training.wait()
            raise

    def kill(self, ready: PreparedRerun) -> None:
        """Send SIGKILL to the process that was started last."""
        del ready
        self._training.kill()


def process_drift() -> list[str]:
    """Return the drift of this process from its image: a line for each difference."""
    return drifted(live(), source=CHECKOUT, baked_inventory=BAKED_INVENTORY)


def _variables(ready: PreparedRerun, environ: Mapping[str, str], *, recorded: bool) -> dict[str, str]:
    """Return the environment variables of the rerun, with the recorded identity of the image if it is the recorded image."""
    inherited = {name: environ[name] for name in (*_VARIABLES, *IMAGE_VARIABLES) if name in environ}
    return (
        inherited
        | (recorded_identity(ready.original) if recorded else {})
        | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "REPRISE_RUNS": str(ready.folder.parent),
            "REPRISE_CACHE": str(ready.cache),
            "REPRISE_STORE": str(ready.store),
            "REPRISE_HOST": host_name(),
            RETEST: ready.original.run,
        }
    )


def recorded_identity(record: Record) -> dict[str, str]:
    """Return the environment variables that identify the recorded image in its containers."""
    image = record.circumstances.image
    values = (
        image.environment,
        image.reference,
        image.config,
        ",".join(record.ingredients.layers or []),
        image.build_id,
    )
    return {name: value for name, value in zip(IMAGE_VARIABLES, values, strict=True) if value}


def _differences(record: Record) -> Iterator[str]:
    claim, recorded = claim_image(os.environ), record.circumstances
    if record.ingredients.layers is None:
        yield f"image: the record names no image; this is {claim.image.reference or 'an unknown image'}"
    elif claim.layers != record.ingredients.layers:
        current = claim.image.reference or "an unknown image"
        yield f"image: {recorded.image.reference or recorded.image.config} in the record, {current} here"
    if platform.python_version() != recorded.inventory.python:
        yield f"Python: {recorded.inventory.python} in the record, {platform.python_version()} here"
    versions = {name: item.version for name, item in recorded.inventory.distributions.items()}
    installed = {name: item["version"] for name, item in distributions(import_roots()).items()}
    for name in sorted(versions.keys() | installed.keys()):
        if versions.get(name) != installed.get(name):
            yield f"distribution {name}: {versions.get(name, 'none')} in the record, {installed.get(name, 'none')} here"
