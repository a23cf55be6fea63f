"""Launchers of the points of a sweep: in containers of the frozen image, started from the host, or as processes of this environment.

A point trains the frozen source. Its process is the leader of its own session and writes into a file: it outlives the sweep that started
it, and Ctrl-C reaches it only through the sweep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Protocol

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ImageMissingError, RunError
from trainer.cli.output import print_notice
from trainer.environments.engine.compose import require_no_colon, run_command, start
from trainer.launch.container import container_name
from trainer.launch.training import ContainerTraining, ProcessTraining
from trainer.launch.watch import record_engine_fault
from trainer.runs.image_claim import WATCHED
from trainer.settings.fields import ENVIRONMENT_PREFIX
from trainer.source.capture import COPY
from trainer.sweeps.document import FOLDER
from trainer.sweeps.folder import SETTINGS, sweep_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.environments.engine import Engine
    from trainer.launch.training import Training
    from trainer.sweeps.document import Sweep

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_RUNS: Final = "/project/runs"
_OVERRIDE: Final = "compose.json"
_IMAGE_IDENTITY: Final = (
    "REPRISE_ENVIRONMENT",
    "REPRISE_IMAGE",
    "REPRISE_IMAGE_CONFIG",
    "REPRISE_IMAGE_LAYERS",
    "REPRISE_BUILD_ID",
)
IMAGE: Final = (*_IMAGE_IDENTITY, "REPRISE_PULL", "COMPOSE_FILE")
"""Variables of `.env` that select the image and its devices."""


class PointLauncher(Protocol):
    """Starts the trainings of a sweep's points."""

    def start(self, words: Sequence[str], run: Path, *, log: int, gpus: str | None) -> Training:
        """Start `train` with these arguments for the run in this folder, on these GPUs; it writes to `log`."""
        ...

    def attach(self, run: Path) -> Training:
        """Return the training of a run that an earlier process started."""
        ...

    def check_points(self, log: int) -> bytes:
        """Return the output of `_points` for the sweep. Raises `RunError` if it fails."""
        ...

    def settings(self, run: Path) -> str:
        """Return the path of the settings file in a run's folder, as the point sees it."""
        ...


class ContainerLauncher:
    """Runs points in containers of the frozen image, with the frozen source in place of a checkout."""

    def __init__(self, sweep: Sweep, folder: Path, *, checkout: Path, engine: Engine) -> None:
        """Write an override for the checkout's compose file. Raises `ImageMissingError`."""
        self._sweep, self._checkout, self._engine = sweep, checkout, engine
        image = sweep.image["REPRISE_IMAGE"]
        if not sweep.image.get("REPRISE_PULL") and engine.image(image) is None:
            raise ImageMissingError(
                f"the image of sweep {sweep.id} is not in the engine: {image}",
                hint="build or pull it again, or start a new sweep in the current image: --again",
            )
        require_no_colon(folder)
        mounts = [f"{folder / COPY}:/project:ro", f"{folder.parents[1]}:{_RUNS}"]
        override = json.dumps({"services": {"train": {"volumes": mounts}}}, indent=1)
        with disk_faults(folder), sweep_root(folder) as root:
            root.write_whole(_OVERRIDE, override.encode())
        files = [folder / COPY / name for name in sweep.image.get("COMPOSE_FILE", "compose.yaml").split(":")]
        self._files = os.pathsep.join(map(str, [*files, folder / _OVERRIDE]))

    def start(self, words: Sequence[str], run: Path, *, log: int, gpus: str | None) -> Training:
        """Start it with compose, which reads the store's credentials from the checkout's `.env`."""
        variables = {**self._sweep.asked.environment, WATCHED: run.name} | ({VISIBLE: gpus} if gpus is not None else {})
        options = [f"--env={name}={value}" for name, value in variables.items()]
        options += [f"--env={name}" for name in secrets(os.environ, self._sweep)]
        process = self._compose(["train", *words], options=[f"--name={container_name(run.name)}", *options], log=log)
        return ContainerTraining(run, engine=self._engine, process=process, report=print_notice)

    def attach(self, run: Path) -> Training:
        """Return the training in the run's container."""
        return ContainerTraining(run, engine=self._engine, process=None, report=print_notice)

    def check_points(self, log: int) -> bytes:
        """Run `_points` in a container."""
        words = ["_points", f"{_RUNS}/{FOLDER}/{self._sweep.id}"]
        return _output_of(self._compose(words, options=["--no-deps"], log=log, out=subprocess.PIPE))

    def _compose(
        self, words: Sequence[str], *, options: Sequence[str], log: int, out: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        command = run_command(words, options=("-T", *options), project=self._checkout)
        variables = {**os.environ, **self._sweep.image, "COMPOSE_FILE": self._files}
        return start(command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True)

    def settings(self, run: Path) -> str:
        """Return the path below the mounted runs folder."""
        return f"{_RUNS}/{run.name}/{SETTINGS}"


class ProcessLauncher:
    """Runs points as processes of this Python, in the frozen source."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        """Run the points of `sweep`, whose source is frozen in `folder`."""
        self._sweep, self._source, self._runs = sweep, folder / COPY, folder.parents[1]

    def start(self, words: Sequence[str], run: Path, *, log: int, gpus: str | None) -> Training:
        """Start it with this environment, without settings variables that are not the sweep's."""
        record_engine_fault("here", folder=run, fault="this sweep runs its points as processes, without an engine")
        own = {WATCHED: run.name} | ({VISIBLE: gpus} if gpus is not None else {})
        return ProcessTraining(self._python(["train", *words], own, log=log))

    def attach(self, run: Path) -> Training:
        """Return a training that cannot be signalled."""
        del run
        return ProcessTraining(None)

    def check_points(self, log: int) -> bytes:
        """Run `_points` in a process."""
        words = ["_points", str(self._runs / FOLDER / self._sweep.id)]
        return _output_of(self._python(words, {}, log=log, out=subprocess.PIPE))

    def _python(
        self, words: Sequence[str], own: Mapping[str, str], *, log: int, out: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
        kept |= {name: os.environ[name] for name in secrets(os.environ, self._sweep)}
        paths = {"PYTHONPATH": str(self._source), "REPRISE_RUNS": str(self._runs)}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "trainer", *words],
            cwd=self._source,
            env={**kept, **self._sweep.asked.environment, **paths, **own},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            start_new_session=True,
        )

    def settings(self, run: Path) -> str:
        """Return its path."""
        return str(run / SETTINGS)


def _output_of(process: subprocess.Popen[bytes]) -> bytes:
    out, _ = process.communicate()
    if process.returncode:
        message = f"the settings of the points could not be checked (exit code {process.returncode})"
        raise RunError(message, hint="the lines above say why")
    return out


def secrets(environ: Mapping[str, str], sweep: Sweep) -> list[str]:
    """Return the names of secret settings in the environment that the sweep uses; it stores their names, not their values."""
    return sorted(name for name in sweep.asked.secrets if name in environ)
