"""Resources of a sweep: the frozen image, the launcher of its points, and the GPUs and slots that they use.

On a host without torch, points run in containers of the frozen image; otherwise as processes of this environment. A point trains the
frozen source. The point's process leads its own session and writes to a file, so that it outlives the sweep that started it, and Ctrl-C
reaches it only through the sweep.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ImageMismatchError, ImageMissingError, RunError
from trainer.cli.configuration import CHECKOUT
from trainer.cli.machine import can_train, check_lock, device_for, torch_version, visible_gpus
from trainer.cli.output import print_notice
from trainer.environments.engine.compose import require_no_colon
from trainer.launch.container import ContainerLauncher
from trainer.launch.contract import IMAGE_VARIABLES, CommandRequest
from trainer.launch.process import ProcessLauncher
from trainer.runs.hardware import gpu_nodes
from trainer.runs.image_claim import claim_image
from trainer.settings.determinism import Level
from trainer.settings.fields import LaunchSettings
from trainer.settings.origins import Origins, parse_options, resolve, setting_options
from trainer.settings.variables import ENVIRONMENT_PREFIX
from trainer.source.capture import COPY
from trainer.sweeps.document import FOLDER
from trainer.sweeps.folder import sweep_root

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.environments.engine import Engine
    from trainer.launch.contract import Launcher, StartedCommand
    from trainer.sweeps.document import Point, Sweep


VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_RUNS: Final = "/project/runs"
_OVERRIDE: Final = "compose.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointLauncher:
    """Starts the runs of a sweep's points."""

    sweep: Sweep
    launcher: Launcher
    runs: str
    """The folder of runs, as a point sees it."""

    def start(self, words: Sequence[str], run: Path, *, log: int, gpus: str | None) -> StartedCommand:
        """Start `train` with the arguments `words` for the run in the folder `run`; stderr goes to the file descriptor `log`.

        `gpus` is the value of CUDA_VISIBLE_DEVICES; `None` sets no value.
        """
        request = CommandRequest(
            words=["train", *words],
            run=run,
            variables=self.sweep.asked.environment | ({} if gpus is None else {VISIBLE: gpus}),
            inherited=sorted(name for name in self.sweep.asked.secrets if name in os.environ),
        )
        return self.launcher.start(
            request,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )

    def attach(self, run: Path) -> StartedCommand:
        """Return the process of a run that an earlier process started."""
        return self.launcher.attach(run)

    def check_points(self, log: int) -> bytes:
        """Return the output of `_points` for the sweep. Raise `RunError` if it fails."""
        code, output = self.launcher.start(
            CommandRequest(words=["_points", f"{self.runs}/{FOLDER}/{self.sweep.id}"], needs_store=False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ).output()
        if code:
            message = f"the settings of the points could not be checked (exit code {code})"
            raise RunError(message, hint="see the output above")
        return output

    def settings(self, run: Path) -> list[str]:
        """Return the paths of the settings files in a run's folder, as the point sees them."""
        return [f"{self.runs}/{run.name}/{path}" for path in self.sweep.asked.settings_files]


def points_in_containers(sweep: Sweep, folder: Path, *, checkout: Path, engine: Engine) -> PointLauncher:
    """Return the launcher of points in containers of the frozen image, with the frozen source in place of a checkout.

    Write the Compose file that mounts the source. Compose reads the store's credentials from the checkout's `.env`. Raise
    `ImageMissingError` if the image is not on this machine and is not pulled from a registry.
    """
    image = sweep.image["REPRISE_IMAGE"]
    if not sweep.image.get("REPRISE_PULL") and engine.image(image) is None:
        raise ImageMissingError(
            f"the image of sweep {sweep.id} is not on this machine: {image}",
            hint="build or pull the image again, or start a new sweep in the current image: --again",
        )
    require_no_colon(folder)
    mounts = [f"{folder / COPY}:/project:ro", f"{folder.parents[1]}:{_RUNS}"]
    override = json.dumps({"services": {"train": {"volumes": mounts}}}, indent=1)
    with disk_faults(folder), sweep_root(folder) as root:
        root.write_whole(_OVERRIDE, override.encode())
    files = [folder / COPY / name for name in sweep.image.get("COMPOSE_FILE", "compose.yaml").split(":")]
    variables = {"COMPOSE_FILE": os.pathsep.join(map(str, [*files, folder / _OVERRIDE]))}
    launcher = ContainerLauncher(
        checkout=checkout,
        engine=engine,
        report=print_notice,
        options=["-T"],
        environ={**os.environ, **sweep.image, **variables},
        project=checkout,
    )
    return PointLauncher(sweep=sweep, launcher=launcher, runs=_RUNS)


def points_in_processes(sweep: Sweep, folder: Path) -> PointLauncher:
    """Return the launcher of points as processes of this Python, in the frozen source.

    The processes inherit this process's environment, except for variables with settings: they get those that the sweep has recorded.
    """
    source, runs = folder / COPY, str(folder.parents[1])
    environ = {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    launcher = ProcessLauncher(source=source, folder=source, environ=environ | {"REPRISE_RUNS": runs})
    return PointLauncher(sweep=sweep, launcher=launcher, runs=runs)


def frozen_image() -> tuple[dict[str, str], list[str] | None]:
    """Return the variables that select the current image, and its layers; no variables if points train in processes of this Python.

    Raise what `train` raises if no container can be started.
    """
    if can_train():
        claim = claim_image(os.environ)
        check_lock(claim, CHECKOUT)
        return {}, claim.layers
    from trainer.cli.checkout import compose_values
    from trainer.cli.containers import require_set_up

    require_set_up("training")
    values = compose_values()
    layers = [layer for layer in values.get("REPRISE_IMAGE_LAYERS", "").split(",") if layer]
    return {
        name: values[name] for name in (*IMAGE_VARIABLES, "REPRISE_PULL", "COMPOSE_FILE") if values.get(name)
    }, layers or None


def launcher_for(sweep: Sweep, folder: Path) -> PointLauncher:
    """Return the launcher of the points.

    Raise `ImageMismatchError` if this is a different image or environment than the sweep's, and the errors of `require_set_up` and
    `points_in_containers`.
    """
    if can_train():
        if claim_image(os.environ).layers != sweep.layers:
            raise ImageMismatchError(
                f"sweep {sweep.id} was started in a different image",
                hint=f"type on the host: scripts/reprise sweep --continue {sweep.id}",
            )
        return points_in_processes(sweep, folder)
    if not sweep.image:
        raise ImageMismatchError(
            f"sweep {sweep.id} was started inside a container or an environment with torch",
            hint=f"continue it there: docker compose run --rm train sweep --continue {sweep.id}",
        )
    from trainer.cli.checkout import engine, wake_store
    from trainer.cli.containers import require_set_up

    require_set_up("training")
    wake_store()
    return points_in_containers(sweep, folder, checkout=CHECKOUT, engine=engine())


def gpus_for(sweep: Sweep, folder: Path) -> list[str]:
    """Return the GPUs, such as `0,1`, of each point that may run at the same time; an empty list if points train on the CPU."""
    settings = resolve(LaunchSettings, origins_of_point(sweep, sweep.points[0], folder), ignore_unknown=True).settings
    if can_train():
        gpus = visible_gpus()
        level = settings.determinism
        is_cpu = device_for(settings.accelerator, gpus=gpus, torch=torch_version(), level=level) == "cpu"
    else:
        gpus = gpu_nodes() if "gpu" in sweep.image.get("COMPOSE_FILE", "") else []
        is_cpu = settings.accelerator == "cpu" or settings.determinism is Level.PORTABLE
    if is_cpu:
        return []
    names = os.environ[VISIBLE].split(",") if os.environ.get(VISIBLE) else [str(number) for number in range(len(gpus))]
    each = settings.devices
    return [",".join(names[first : first + each]) for first in range(0, len(names) - each + 1, each)]


def origins_of_point(sweep: Sweep, point: Point, folder: Path) -> Origins:
    """Return the origins of a point's settings."""
    return Origins(
        options=setting_options(parse_options([*sweep.asked.words, *point.words()])),
        environ=sweep.asked.environment,
        files=tuple(folder / path for path in sweep.asked.settings_files),
    )


def slots_for(gpus: Sequence[str], *, jobs: int | None) -> list[str | None]:
    """Return the GPUs of each slot, or `None` for the CPU. If `jobs` is more than the number of `gpus`, slots share GPUs.

    >>> slots_for([], jobs=None), slots_for(["0", "1"], jobs=None), slots_for(["0"], jobs=2)
    ([None], ['0', '1'], ['0', '0'])
    """
    return list(islice(cycle(gpus or [None]), jobs or len(gpus) or 1))
