"""Rerunning a record as a process of this environment: a running container, or the machine's own Python.

The rerun is not isolated: the recorded code runs as this user with this machine's network. It gets no credentials.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from trainer.cli.configuration import CHECKOUT, cache_folder, host_name
from trainer.cli.fetch import export_datasets
from trainer.cli.process.attempt import BAKED_INVENTORY
from trainer.cli.runner import Runner
from trainer.data.cache.folder import Cache
from trainer.environments import installed_files
from trainer.environments.inventory import distributions, import_roots, live
from trainer.launch.contract import IMAGE_VARIABLES, CommandRequest
from trainer.launch.process import ProcessCommand, ProcessLauncher
from trainer.runs.identify import drifted
from trainer.runs.image_claim import claim_image
from trainer.settings.fields import RETEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.comparison.reproduce import PreparedRerun
    from trainer.data.declaration import Dataset
    from trainer.runs.record import Knowledge, Record

_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)


class ProcessRunner(Runner):
    """Reruns in the environment of this process."""

    how = "here"
    is_isolated = False
    isolation = "this user's own process: it can reach this machine's network and this user's files"

    def __init__(self, *, recorded: bool = False) -> None:
        """`recorded` states that this environment is the recorded image."""
        self._recorded = recorded
        self._training = ProcessCommand(None)

    def is_cached(self, dataset: Dataset) -> bool:
        """Look into this process's cache."""
        return Cache(root=cache_folder()).has(dataset)

    def not_equal(self, record: Record) -> list[str]:
        """Return differences of image and packages from the record, and the drift of this process."""
        return [*_differences(record), *process_drift()]

    def altered(self, record: Record) -> tuple[int, list[str]]:
        """Hash every installed file of this environment."""
        del record
        return installed_files.altered(import_roots())

    def lend(self, datasets: Sequence[Dataset], ready: PreparedRerun) -> None:
        """Fetch datasets in this process."""
        export_datasets(datasets, into=ready.store)

    def run(self, ready: PreparedRerun) -> tuple[int, Knowledge]:
        """Run it with this Python; its environment variables are only those that a run needs."""
        environ = _variables(ready, os.environ, recorded=self._recorded)
        launcher = ProcessLauncher(source=ready.source, folder=ready.source, environ=environ)
        request = CommandRequest(words=ready.arguments.words(str(ready.settings)), run=ready.folder)
        self._training = launcher.start(request, stdin=subprocess.DEVNULL, stdout=sys.stderr)
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


def process_drift() -> list[str]:
    """Return the drift of this process from its image, one line each."""
    return drifted(live(), source=CHECKOUT, baked_inventory=BAKED_INVENTORY)


def _variables(ready: PreparedRerun, environ: Mapping[str, str], *, recorded: bool) -> dict[str, str]:
    """Return the environment variables of the rerun, with the recorded identity of the image if it is the recorded image."""
    inherited = {name: environ[name] for name in (*_VARIABLES, *IMAGE_VARIABLES) if name in environ}
    return (
        inherited
        | (_identity(ready.original) if recorded else {})
        | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "REPRISE_RUNS": str(ready.folder.parent),
            "REPRISE_CACHE": str(ready.cache),
            "REPRISE_STORE": str(ready.store),
            "REPRISE_HOST": host_name(),
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
    return {name: value for name, value in zip(IMAGE_VARIABLES, values, strict=True) if value}


def _differences(record: Record) -> Iterator[str]:
    claim, recorded = claim_image(os.environ), record.circumstances
    if record.ingredients.layers is None:
        yield f"image: the record names no image; this is {claim.image.reference or 'an unknown image'}"
    elif claim.layers != record.ingredients.layers:
        current = claim.image.reference or "an unknown image"
        yield f"image: recorded was {recorded.image.reference or recorded.image.config}; this is {current}"
    if platform.python_version() != recorded.inventory.python:
        yield f"Python: recorded was {recorded.inventory.python}; this is {platform.python_version()}"
    versions = {name: item.version for name, item in recorded.inventory.distributions.items()}
    installed = {name: item["version"] for name, item in distributions(import_roots()).items()}
    for name in sorted(versions.keys() | installed.keys()):
        if versions.get(name) != installed.get(name):
            yield f"distribution {name}: recorded was {versions.get(name, 'none')}; here is {installed.get(name, 'none')}"
