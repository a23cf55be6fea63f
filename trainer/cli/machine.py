"""Checks that this image and this machine can train: lock, environment and device. Imports no torch."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.digest import digest_of_file
from trainer.base.errors import DeviceError, EnvironmentNameError, LockError, MachineError, SettingError
from trainer.base.suggestions import counted
from trainer.runs.image_file import IMAGE_FILE
from trainer.settings.determinism import Level, threads_at
from trainer.settings.shards import shards_of

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.handoff import Launch
    from trainer.runs.image_claim import ImageClaim
    from trainer.settings.fields import LaunchSettings


def can_train() -> bool:
    """Return whether this process can train: in a container of an image, or with torch on this machine."""
    return IMAGE_FILE.exists() or find_spec("torch") is not None


def check_lock(claim: ImageClaim, checkout: Path) -> None:
    """Raise an error if this process runs in an image that does not match the checkout's lock.

    Raise `LockError` if the lock is missing or its packages differ from the image's, `EnvironmentNameError` if the checkout does not
    declare the image's environment.
    """
    if claim.baked is None:
        return
    name, lock = claim.baked.environment, checkout / "uv.lock"
    if not lock.is_file():
        raise LockError(
            f"{lock} does not exist; an image needs the lock it was built from", hint="git checkout uv.lock"
        )
    if claim.baked.lock == digest_of_file(lock):
        return
    from trainer.environments.declaration import load_environment, requirements_of
    from trainer.environments.setup import require_environment

    require_environment({"REPRISE_ENVIRONMENT": name}, root=checkout)
    requirements = requirements_of(load_environment(name, root=checkout), root=checkout)
    if requirements != claim.baked.lock:
        raise LockError(
            f"the checkout's uv.lock has packages {requirements} for environment {name}; this image has {claim.baked.lock}",
            hint=f"build the image: scripts/reprise image build {name}",
        )


def check_environment(claim: ImageClaim, settings: LaunchSettings) -> None:
    """Raise `EnvironmentNameError` if the setting `environment` is not this process's environment."""
    requested, current = settings.environment, claim.image.environment
    if requested is not None and requested != current:
        raise EnvironmentNameError(
            f"setting environment is {requested!r}; this process runs in {current or 'no image'}",
            hint=f"on the host: scripts/setup --environment {requested} --build, then run again",
        )


def device_for(accelerator: str, *, gpus: list[str], torch: str, level: Level = Level.MACHINE) -> Literal["cpu", "gpu"]:
    """Return the accelerator to train on; `torch` is the installed version of torch.

    Raise `SettingError` for a GPU at determinism portable, `DeviceError` if a requested GPU is not visible, or if torch is built for CPUs
    and cannot use this machine's GPUs.
    """
    if level is Level.PORTABLE and accelerator == "gpu":
        raise SettingError(
            "setting accelerator is gpu at determinism portable, which guarantees equal bits on CPUs only",
            hint="use --accelerator cpu, or choose determinism machine",
        )
    if level is Level.PORTABLE:
        return "cpu"
    if accelerator == "cpu" or (accelerator == "auto" and not gpus):
        return "cpu"
    if not gpus:
        raise DeviceError(
            "setting accelerator is gpu, but no GPU is visible here",
            hint="`reprise doctor` shows the cause; or use --accelerator cpu",
        )
    if torch.endswith("+cpu"):
        raise DeviceError(
            f"this machine has {counted(len(gpus), 'GPU')}, but this image's torch ({torch}) is built for CPUs",
            hint="use --accelerator cpu to train on the CPU, or use the cuda environment",
        )
    return "gpu"


def visible_gpus() -> list[str]:
    """Return the names of the GPU device files that this process sees; an empty list if CUDA_VISIBLE_DEVICES hides all GPUs."""
    from trainer.runs.hardware import gpu_nodes

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [] if hidden in {"", "-1"} else gpu_nodes()


def torch_version() -> str:
    """Return torch's version without importing torch. Raise `MachineError` if torch is not installed."""
    try:
        return version("torch")
    except PackageNotFoundError as fault:
        raise MachineError(
            "training needs torch, which this image does not have", hint="run it in the cpu or the cuda environment"
        ) from fault


_KNOWLEDGE: Final = {
    "verified": "verified by a launcher on the host",
    "asserted": "asserted by .env",
    "unknown": "unknown",
}
"""Texts for `Image.known`, which docs/reference/record.md explains."""


def first_line(claim: ImageClaim, launch: Launch, settings: LaunchSettings) -> str:
    """Return a run's first line: environment, image and device."""
    image = claim.image
    environment = f"environment {image.environment}" if image.environment else "no environment (this machine's Python)"
    name = image.manifest or image.config or image.build_id
    image_text = f"image {name[:19]} ({_KNOWLEDGE[image.known]})" if name else f"image {image.known}"
    threads = counted(threads_at(settings.determinism, settings.threads), "thread")
    device = f"{settings.devices} x {launch.device}" if settings.devices > 1 else launch.device
    if (shards := shards_of(settings.shards, devices=settings.devices)) > 1:
        device += f", {settings.strategy or f'{shards} shards'}"
    return f"{environment}, {image_text}, device {device}, {threads}, determinism {settings.determinism}"
