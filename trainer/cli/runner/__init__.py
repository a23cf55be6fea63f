"""Runners of a recorded run: a container of the recorded image, started from the host, or a process of this environment."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from shutil import disk_usage
from typing import TYPE_CHECKING, Literal

from trainer.base.errors import DriftError, ImageMismatchError
from trainer.cli.configuration import CHECKOUT, configured_store, host_name, runs_folder
from trainer.comparison.examine_run import MachineResources
from trainer.comparison.rerun import image_name
from trainer.runs.hardware import read_host
from trainer.runs.image_claim import BAKED, claim_image
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.comparison.reproduce import PreparedRerun
    from trainer.data.declaration import Dataset
    from trainer.environments.engine import Engine
    from trainer.runs.record import Record


class Runner(ABC):
    """Reruns a recorded run."""

    how: Literal["container", "here"]
    is_isolated: bool
    """Whether the recorded code can use only its run's folder and what the user granted."""
    isolation: str
    """What the recorded code can use, for messages."""

    engine: Engine | None = None
    """`None` if the run uses the current process instead of a container."""

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
        """Return the differences between this environment and the recorded one, one per line; a recorded image has none."""
        del record
        return []

    @abstractmethod
    def is_cached(self, dataset: Dataset) -> bool:
        """Return whether the cache has all of a dataset."""

    @abstractmethod
    def altered(self, record: Record) -> tuple[int, list[str]]:
        """Return how many installed files match the digests of their distributions, and a line for each that does not."""

    @abstractmethod
    def lend(self, datasets: Sequence[Dataset], ready: PreparedRerun) -> None:
        """Fetch datasets with the current code, and provide them to the rerun."""

    @abstractmethod
    def run(self, ready: PreparedRerun) -> tuple[int, Knowledge]:
        """Run it; return its exit status and how its image is known."""

    @abstractmethod
    def kill(self, ready: PreparedRerun) -> None:
        """Kill it, from another thread."""


def choose_runner(record: Record, *, here: bool, granted: frozenset[str] = frozenset()) -> Runner:
    """Return the runner of a record, with the user's grants. Raises `ImageMismatchError` in a container of another image."""
    if here or BAKED.exists():
        from trainer.cli.runner.process import ProcessRunner, process_drift

        if not here:
            check_image(record)
            check_drift(process_drift())
        return ProcessRunner(recorded=not here)
    from trainer.cli.runner.container import ContainerRunner

    return ContainerRunner(granted)


def is_recorded(record: Record, environ: Mapping[str, str], *, baked: Path = BAKED) -> bool:
    """Return whether this process runs in the recorded image, according to the environment variables and the image itself.

    If a user sets only REPRISE_IMAGE, the build ID in the image must be the recorded one.
    """
    name, claim = image_name(record), claim_image(environ, baked=baked)
    if claim.image.known is not Knowledge.UNKNOWN:
        return claim.layers == name.layers
    build_id = claim.image.build_id
    manifest = environ.get("REPRISE_IMAGE", "").rpartition("@")[2]
    return build_id is not None and build_id == record.circumstances.image.build_id and manifest == name.manifest


def check_image(record: Record) -> None:
    """Raise `ImageMismatchError` in a container of another image than the recorded one."""
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
