"""Whether this image and this machine can run what was asked for: the lock, the environment, the device; told in a run's first line.

Knows what is refused, and the remedy. Refuses to import torch: its version says what it was built for.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.digest import digest_of_file
from trainer.base.errors import DeviceError, EnvironmentNameError, LockError, MachineError, SettingError
from trainer.base.suggestions import counted
from trainer.environments.declaration import load_environment, requirements_of
from trainer.runs.hardware import gpu_nodes
from trainer.runs.record import Knowledge
from trainer.settings.determinism import Level, threads_at

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.handoff import Launch
    from trainer.runs.image_claim import ImageClaim
    from trainer.settings.fields import LaunchSettings


def check_lock(known: ImageClaim, checkout: Path) -> None:
    """Refuse a checkout that gives other packages to the environment than the image was built from. Raises `LockError`.

    Raises `EnvironmentNameError` if the checkout no longer declares the environment.
    """
    if known.baked is None:
        return
    name, lock = known.baked.environment, checkout / "uv.lock"
    if not lock.is_file():
        raise LockError(f"{lock} does not exist; an image runs what it says", hint="git checkout uv.lock")
    if known.baked.lock == digest_of_file(lock):
        return
    from trainer.environments.setup import require_environment

    require_environment({"REPRISE_ENVIRONMENT": name}, root=checkout)
    found = requirements_of(load_environment(name, root=checkout), root=checkout)
    if found != known.baked.lock:
        raise LockError(
            f"for environment {name}, uv.lock of the checkout gives packages {found}; this image has {known.baked.lock}",
            hint=f"build the image: scripts/reprise image build {name}",
        )


def check_environment(known: ImageClaim, settings: LaunchSettings) -> None:
    """Refuse an environment that is not the one this process runs in."""
    asked, here = settings.environment, known.image.environment
    if asked is not None and asked != here:
        raise EnvironmentNameError(
            f"setting environment is {asked!r}; this process runs in {here or 'no image'}",
            hint=f"on the host: scripts/setup --environment {asked} --build, then run again",
        )


def device_for(asked: str, *, gpus: list[str], torch: str, level: Level = Level.MACHINE) -> Literal["cpu", "gpu"]:
    """Decide what to train on; `torch` is the installed version. Raises `DeviceError`: a GPU is never passed over in silence."""
    if level is Level.PORTABLE and asked == "gpu":
        raise SettingError(
            "setting accelerator is gpu at determinism portable, which promises equal bits on CPUs only",
            hint="give --accelerator cpu, or choose determinism machine",
        )
    if level is Level.PORTABLE:
        return "cpu"
    able = not torch.endswith("+cpu")
    if asked == "cpu" or (asked == "auto" and not gpus):
        return "cpu"
    if not gpus:
        raise DeviceError(
            "setting accelerator is gpu, but no GPU is visible here",
            hint="`reprise doctor` says why, or give --accelerator cpu",
        )
    if not able:
        raise DeviceError(
            f"this machine has {counted(len(gpus), 'GPU')}, but this image's torch ({torch}) is built for CPUs",
            hint="give --accelerator cpu to train on the CPU all the same, or use the cuda environment",
        )
    return "gpu"


def visible_gpus() -> list[str]:
    """Name the GPUs that this process may use."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [] if hidden in {"", "-1"} else gpu_nodes()


def torch_version() -> str:
    """Give torch's version without importing it. Raises `MachineError` where there is none."""
    try:
        return version("torch")
    except PackageNotFoundError as fault:
        raise MachineError(
            "training needs torch, which this image does not have", hint="run it in the cpu or the cuda environment"
        ) from fault


_SAID: Final = {
    Knowledge.VERIFIED: "verified: a launcher on the host looked",
    Knowledge.ASSERTED: "asserted: .env says so",
    Knowledge.UNKNOWN: "unknown",
}
"""How the image is known, in a few words; docs/reference/record.md has more of them. Why it is unknown is told in a line of its own."""


def first_line(known: ImageClaim, launch: Launch, settings: LaunchSettings) -> str:
    """Name environment, image and device: the first line of every run."""
    image = known.image
    place = f"environment {image.environment}" if image.environment else "no environment (this machine's own Python)"
    name = image.manifest or image.config or image.build_id
    said = f"image {name[:19]} ({_SAID[image.known]})" if name else f"image {image.known}"
    threads = threads_at(settings.determinism, settings.threads)
    device = f"{settings.devices} x {launch.device}" if settings.devices > 1 else launch.device
    return f"{place}, {said}, device {device}, {counted(threads, 'thread')}, determinism {settings.determinism}"
