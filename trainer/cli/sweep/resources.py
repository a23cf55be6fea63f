"""Resources of a sweep: the frozen image, the launcher of its points, and the GPUs and slots that they use.

On a host without torch, points run in containers; otherwise as processes.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from itertools import cycle, islice
from typing import TYPE_CHECKING

from trainer.base.errors import ImageMismatchError
from trainer.cli.configuration import CHECKOUT
from trainer.cli.machine import check_lock, device_for, torch_version, visible_gpus
from trainer.cli.sweep.launchers import IMAGE, VISIBLE, ContainerLauncher, PointLauncher, ProcessLauncher
from trainer.runs.hardware import gpu_nodes
from trainer.runs.image_claim import BAKED, claim_image
from trainer.settings.determinism import Level
from trainer.settings.fields import LaunchSettings
from trainer.settings.origins import Origins, resolve, take_apart
from trainer.sweeps.folder import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.sweeps.document import Sweep


def frozen_image() -> tuple[dict[str, str], list[str] | None]:
    """Return the variables that select the current image, and its layers. Raises what `train` raises if no container can be started."""
    if _runs_in_this_process():
        known = claim_image(os.environ)
        check_lock(known, CHECKOUT)
        return {}, known.layers
    from trainer.cli.checkout import compose_values
    from trainer.cli.train.container import require_set_up

    require_set_up(CHECKOUT)
    values = compose_values()
    layers = [layer for layer in values.get("REPRISE_IMAGE_LAYERS", "").split(",") if layer]
    return {name: values[name] for name in IMAGE if values.get(name)}, layers or None


def launcher_for(sweep: Sweep, folder: Path) -> PointLauncher:
    """Return the launcher of the points. Raises `ImageMismatchError` if only another image than the sweep's is available."""
    if _runs_in_this_process():
        if claim_image(os.environ).layers != sweep.layers:
            raise ImageMismatchError(
                f"sweep {sweep.id} was started in another image than this one",
                hint=f"type on the host: scripts/reprise sweep --continue {sweep.id}",
            )
        return ProcessLauncher(sweep, folder)
    if not sweep.image:
        raise ImageMismatchError(
            f"sweep {sweep.id} was started inside a container or an environment with torch",
            hint=f"continue it there: docker compose run --rm train sweep --continue {sweep.id}",
        )
    from trainer.cli.checkout import engine
    from trainer.cli.runner.on_host import wake_store
    from trainer.cli.train.container import require_set_up

    require_set_up(CHECKOUT)
    wake_store()
    return ContainerLauncher(sweep, folder, checkout=CHECKOUT, engine=engine())


def gpus_for(sweep: Sweep, folder: Path) -> list[str]:
    """Return the GPUs for each point that may run at the same time; an empty list if points train on the CPU."""
    words = take_apart([*sweep.asked.words, *sweep.points[0].words()])
    file = folder / SETTINGS if sweep.asked.file is not None else None
    origins = Origins(words=words.without("json"), environ=sweep.asked.environment, file=file)
    settings = resolve(LaunchSettings, origins, partly=True).settings
    if _runs_in_this_process():
        found = visible_gpus()
        if device_for(settings.accelerator, gpus=found, torch=torch_version(), level=settings.determinism) == "cpu":
            return []
    else:
        served = "gpu" in sweep.image.get("COMPOSE_FILE", "")
        found = gpu_nodes() if served else []
        if settings.accelerator == "cpu" or settings.determinism is Level.PORTABLE:
            return []
    named = os.environ.get(VISIBLE, "").split(",") if os.environ.get(VISIBLE) else [str(n) for n in range(len(found))]
    each = settings.devices
    return [",".join(named[first : first + each]) for first in range(0, len(named) - each + 1, each)]


def slots_for(gpus: Sequence[str], *, jobs: int | None) -> list[str | None]:
    """Return the GPUs of each slot; if there are more slots than GPUs, slots share them.

    >>> slots_for([], jobs=None), slots_for(["0", "1"], jobs=None), slots_for(["0"], jobs=2)
    ([None], ['0', '1'], ['0', '0'])
    """
    return list(islice(cycle(gpus or [None]), jobs or len(gpus) or 1))


def _runs_in_this_process() -> bool:
    return BAKED.exists() or find_spec("torch") is not None
