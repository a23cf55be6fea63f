"""Rerunning a record as a process of this environment: a running container, or the machine's own Python.

The rerun is not isolated: the recorded code runs as this user with this machine's network. It gets no credentials.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from shutil import disk_usage
from typing import TYPE_CHECKING, Final, Literal

from trainer.cli.configuration import CHECKOUT, cache_folder, configured_store, host_name, runs_folder
from trainer.cli.fetch import export_datasets
from trainer.cli.process.session import BAKED_INVENTORY
from trainer.comparison.examine_run import MachineResources
from trainer.data.cache.folder import Cache
from trainer.environments import installed_files
from trainer.environments.inventory import distributions, import_roots, live
from trainer.launch.training import ProcessTraining
from trainer.launch.watch import record_engine_fault
from trainer.runs.hardware import read_host
from trainer.runs.identify import drifted
from trainer.runs.image_claim import WATCHED, claim_image
from trainer.settings.fields import RETEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.comparison.reproduce import PreparedRerun
    from trainer.data.declaration import Dataset
    from trainer.runs.record import Knowledge, Record

_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_IMAGE: Final = (
    "REPRISE_ENVIRONMENT",
    "REPRISE_IMAGE",
    "REPRISE_IMAGE_CONFIG",
    "REPRISE_IMAGE_LAYERS",
    "REPRISE_BUILD_ID",
)


class Here:
    """Reruns in the environment of this process."""

    how: Literal["container", "here"] = "here"
    is_isolated = False
    isolation = "this user's own process: it can reach this machine's network and this user's files"

    def __init__(self, *, recorded: bool = False) -> None:
        """`recorded` states that this environment is the recorded image."""
        self._recorded = recorded
        self._training = ProcessTraining(None)

    def machine(self) -> MachineResources:
        """Return the store, the cache and the hardware of this machine."""
        runs = runs_folder()
        runs.mkdir(parents=True, exist_ok=True)
        return MachineResources(
            engine=None,
            open_store=configured_store,
            cached=lambda dataset: Cache(root=cache_folder()).has(dataset),
            host=read_host(name=host_name()),
            free=disk_usage(runs).free,
        )

    def not_equal(self, record: Record) -> list[str]:
        """Return differences of image and packages from the record, and the drift of this process."""
        return [*_differences(record), *drift_here()]

    def altered(self, record: Record) -> tuple[int, list[str]]:
        """Hash every installed file of this environment."""
        del record
        return installed_files.altered(import_roots())

    def lend(self, datasets: Sequence[Dataset], ready: PreparedRerun) -> None:
        """Fetch datasets in this process."""
        export_datasets(datasets, into=ready.store)

    def run(self, ready: PreparedRerun) -> tuple[int, Knowledge]:
        """Run it with this Python; its environment variables are only those that a run needs."""
        record_engine_fault(
            "here", folder=ready.folder, fault="the run is a process of this environment, without an engine"
        )
        words = [sys.executable, "-P", "-m", "trainer", *ready.arguments.words(str(ready.settings))]
        variables = _variables(ready, os.environ, recorded=self._recorded)
        self._training = ProcessTraining(
            subprocess.Popen(words, cwd=ready.source, env=variables, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        )
        try:
            return self._training.wait(), claim_image(os.environ).image.known
        except BaseException:  # the process closes its record
            self._training.send_signal(signal.SIGTERM)
            self._training.wait()
            raise

    def kill(self, ready: PreparedRerun) -> None:
        """Send SIGKILL to the process that was started last."""
        del ready
        self._training.kill()


def drift_here() -> list[str]:
    """Return the drift of this process from its image, one line each."""
    return drifted(live(), source=CHECKOUT, baked_inventory=BAKED_INVENTORY)


def _variables(ready: PreparedRerun, environ: Mapping[str, str], *, recorded: bool) -> dict[str, str]:
    """Return the environment variables of the rerun, with the recorded identity of the image if it is the recorded image."""
    kept = {name: environ[name] for name in (*_KEPT, *_IMAGE) if name in environ}
    return (
        kept
        | (_identity(ready.original) if recorded else {})
        | {
            "PYTHONPATH": str(ready.source),
            "PYTHONDONTWRITEBYTECODE": "1",
            "REPRISE_RUNS": str(ready.folder.parent),
            "REPRISE_CACHE": str(ready.cache),
            "REPRISE_STORE": str(ready.store),
            "REPRISE_HOST": host_name(),
            WATCHED: ready.run,
            RETEST: ready.original.run,
        }
    )


def _identity(record: Record) -> dict[str, str]:
    image = record.circumstances.image
    values = (
        image.environment,
        image.reference,
        image.config,
        ",".join(record.ingredients.layers or []),
        image.build_id,
    )
    return {name: value for name, value in zip(_IMAGE, values, strict=True) if value}


def _differences(record: Record) -> Iterator[str]:
    mine, recorded = claim_image(os.environ), record.circumstances
    if record.ingredients.layers is None:
        yield f"image: the record names no image; this is {mine.image.reference or 'an unknown image'}"
    elif mine.layers != record.ingredients.layers:
        before, now = recorded.image.reference or recorded.image.config, mine.image.reference or "an unknown image"
        yield f"image: recorded was {before}; this is {now}"
    if platform.python_version() != recorded.inventory.python:
        yield f"Python: recorded was {recorded.inventory.python}; this is {platform.python_version()}"
    versions = {name: item.version for name, item in recorded.inventory.distributions.items()}
    installed = {name: item["version"] for name, item in distributions(import_roots()).items()}
    for name in sorted(versions.keys() | installed.keys()):
        if versions.get(name) != installed.get(name):
            yield f"distribution {name}: recorded was {versions.get(name, 'none')}; here is {installed.get(name, 'none')}"
