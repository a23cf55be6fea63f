"""Where the points of a sweep run: containers of the frozen image, started from the host, or processes of the environment that is there.

Knows how `train` is started so that it finds the frozen source and nothing newer. Refuses to know which point is whose turn.

A point's process is its own session's leader and writes into a file: it outlives the sweep that started it, and Ctrl-C reaches it by the
sweep alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Protocol

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ImageMissingError, RepriseError, RunError
from trainer.environments.engine.compose import require_docker, require_no_colon, run_command
from trainer.launch.container import container_name, remove_container, signal_container
from trainer.launch.watch import see, see_nothing
from trainer.runs.image_claim import WATCHED
from trainer.settings.fields import ENVIRONMENT_PREFIX
from trainer.source.capture import COPY
from trainer.sweeps.document import FOLDER
from trainer.sweeps.folder import SETTINGS, sweep_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.environments.engine import Engine
    from trainer.sweeps.document import Sweep

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_RUNS: Final = "/project/runs"
_OVERRIDE: Final = "compose.json"
_TOLD: Final = (
    "REPRISE_ENVIRONMENT",
    "REPRISE_IMAGE",
    "REPRISE_IMAGE_CONFIG",
    "REPRISE_IMAGE_LAYERS",
    "REPRISE_BUILD_ID",
)
IMAGE: Final = (*_TOLD, "REPRISE_PULL", "COMPOSE_FILE")
"""What of `.env` says which image runs, and with which devices."""


class Place(Protocol):
    """What starts a point."""

    def start(self, words: Sequence[str], run: Path, *, log: int, gpus: str | None) -> subprocess.Popen[bytes]:
        """Start `train` with these words, for the run in this folder; it may use these GPUs, and writes into `log`."""
        ...

    def ask(self, log: int) -> bytes:
        """What `_points` prints of the sweep. Raises `RunError` where it could not be asked."""
        ...

    def settings(self, run: Path) -> str:
        """The settings file in a run's folder, as the point sees it."""
        ...

    def watch(self, run: Path) -> bool:
        """Write down which image the point runs in, as soon as that can be seen; True once it was."""
        ...

    def hand_on(self, number: int, run: str, process: subprocess.Popen[bytes] | None) -> None:
        """Hand a signal on to a point."""
        ...


class Containers:
    """Points are containers of the image that the sweep froze, with its source where a checkout would be."""

    def __init__(self, sweep: Sweep, folder: Path, *, checkout: Path, engine: Engine) -> None:
        """Write what compose is told beside the checkout's own file. Raises `ImageMissingError`."""
        self._sweep, self._checkout, self._engine = sweep, checkout, engine
        image = sweep.image["REPRISE_IMAGE"]
        if not sweep.image.get("REPRISE_PULL") and engine.image(image) is None:
            raise ImageMissingError(
                f"the image that sweep {sweep.id} began in is not in the engine: {image}",
                hint="build or pull it again, or --again to begin anew in the image of today",
            )
        require_no_colon(folder)
        mounts = [f"{folder / COPY}:/project:ro", f"{folder.parents[1]}:{_RUNS}"]
        override = json.dumps({"services": {"train": {"volumes": mounts}}}, indent=1)
        with disk_faults(folder), sweep_root(folder) as place:
            place.write_whole(_OVERRIDE, override.encode())
        files = [folder / COPY / name for name in sweep.image.get("COMPOSE_FILE", "compose.yaml").split(":")]
        self._files = os.pathsep.join(map(str, [*files, folder / _OVERRIDE]))

    def start(self, words: Sequence[str], run: Path, *, log: int, gpus: str | None) -> subprocess.Popen[bytes]:
        """Have compose start it: the checkout lends its `.env`, which has the store's key."""
        told = {**self._sweep.asked.environment, WATCHED: run.name} | ({VISIBLE: gpus} if gpus is not None else {})
        options = [f"--env={name}={value}" for name, value in told.items()]
        options += [f"--env={name}" for name in secrets(os.environ, self._sweep)]
        return self._compose(["train", *words], options=[f"--name={container_name(run.name)}", *options], log=log)

    def ask(self, log: int) -> bytes:
        """In a container of its own."""
        words = ["_points", f"{_RUNS}/{FOLDER}/{self._sweep.id}"]
        return _answered(self._compose(words, options=["--no-deps"], log=log, out=subprocess.PIPE))

    def _compose(
        self, words: Sequence[str], *, options: Sequence[str], log: int, out: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        command = run_command(words, options=("-T", *options), project=self._checkout)
        variables = {**os.environ, **self._sweep.image, "COMPOSE_FILE": self._files}
        with require_docker():
            return subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True
            )

    def settings(self, run: Path) -> str:
        """Below the mounted runs."""
        return f"{_RUNS}/{run.name}/{SETTINGS}"

    def watch(self, run: Path) -> bool:
        """Ask the engine."""
        try:
            return see(self._engine, container_name(run.name), folder=run) is not None
        except RepriseError as fault:
            see_nothing(container_name(run.name), folder=run, fault=fault.message)
            return True

    def hand_on(self, number: int, run: str, process: subprocess.Popen[bytes] | None) -> None:
        """To the container; where there is none yet, compose gives up starting it."""
        if not signal_container(run, number, process) and process is not None:
            process.wait()
            remove_container(run)


class Processes:
    """Points are processes of this Python, in the frozen source."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        """Begin."""
        self._sweep, self._source, self._runs = sweep, folder / COPY, folder.parents[1]

    def start(self, words: Sequence[str], run: Path, *, log: int, gpus: str | None) -> subprocess.Popen[bytes]:
        """Start it with the environment that is there, but for settings that the sweep was not asked for."""
        see_nothing("here", folder=run, fault="the points of this sweep are processes: no engine was asked")
        own = {WATCHED: run.name} | ({VISIBLE: gpus} if gpus is not None else {})
        return self._python(["train", *words], own, log=log)

    def ask(self, log: int) -> bytes:
        """In a process of its own."""
        words = ["_points", str(self._runs / FOLDER / self._sweep.id)]
        return _answered(self._python(words, {}, log=log, out=subprocess.PIPE))

    def _python(
        self, words: Sequence[str], own: Mapping[str, str], *, log: int, out: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
        kept |= {name: os.environ[name] for name in secrets(os.environ, self._sweep)}
        places = {"PYTHONPATH": str(self._source), "REPRISE_RUNS": str(self._runs)}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "trainer", *words],
            cwd=self._source,
            env={**kept, **self._sweep.asked.environment, **places, **own},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            start_new_session=True,
        )

    def settings(self, run: Path) -> str:
        """Where it is."""
        return str(run / SETTINGS)

    def watch(self, run: Path) -> bool:
        """There is nobody to ask."""
        del run
        return True

    def hand_on(self, number: int, run: str, process: subprocess.Popen[bytes] | None) -> None:
        """To the process; one that another sweep started is left to itself."""
        del run
        if process is not None:
            process.send_signal(number)


def _answered(process: subprocess.Popen[bytes]) -> bytes:
    out, _ = process.communicate()
    if process.returncode:
        said = f"the points could not be asked for their settings (exit code {process.returncode})"
        raise RunError(said, hint="the lines above say why")
    return out


def secrets(environ: Mapping[str, str], sweep: Sweep) -> list[str]:
    """Secret settings of the environment: the sweep keeps which of them there were, and not what they hold."""
    return sorted(name for name in sweep.asked.secrets if name in environ)
