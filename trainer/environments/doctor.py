"""The checks of `reprise doctor`: each takes facts about the machine and returns a finding, with a remedy if there is a problem."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DiskFullError, DotenvError, EngineError, MachineError, RepriseError
from trainer.base.suggestions import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from trainer.environments.engine import EngineFacts

OLDEST_ENGINE: Final = 25
"""The first release with a stable containerd image store."""
OLDEST_DRIVER: Final = {"13": 580, "12": 525}
"""The minimum driver release on Linux for each major release of CUDA (NVIDIA, "CUDA Compatibility")."""
ROOM: Final = {"cpu": 8, "cuda": 24}
"""The free gigabytes that a build needs for wheels, layers and archive, by environment: twice the measured size."""


class Severity(StrEnum):
    """The severity of a finding."""

    WELL = "well"
    NOTE = "note"
    """Something is missing that only some users need."""
    FAULT = "fault"
    """Something is missing that training needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The result of a check."""

    about: str
    state: Severity
    found: str
    remedy: str | None = None
    code: int = 0
    """The exit code of a fault; otherwise 0."""


def well(about: str, found: str) -> Diagnosis:
    """Return a finding without a problem."""
    return Diagnosis(about=about, state=Severity.WELL, found=found)


def note(about: str, found: str, remedy: str) -> Diagnosis:
    """Return a finding that matters to some users, with its remedy."""
    return Diagnosis(about=about, state=Severity.NOTE, found=found, remedy=remedy)


def fault(about: str, problem: RepriseError) -> Diagnosis:
    """Return a fault from an error."""
    return Diagnosis(about=about, state=Severity.FAULT, found=problem.message, remedy=problem.hint, code=problem.code)


def run_check(about: str, check: Callable[[], Diagnosis]) -> Diagnosis:
    """Run a check; if it raises an error, return a fault."""
    try:
        return check()
    except RepriseError as problem:
        return fault(about, problem)


def engine(facts: EngineFacts) -> Diagnosis:
    """Check the engine's release and image store."""
    message = f"Docker {facts.version}, storage {facts.storage}"
    major = re.match(r"\d+", facts.version)
    if not major or int(major[0]) < OLDEST_ENGINE:
        return fault(
            "engine",
            EngineError(
                f"{message}; expected release {OLDEST_ENGINE} or newer",
                hint="docs/how-to/machines.md describes how to install it",
            ),
        )
    if not facts.keeps_manifests:
        remedy = 'set "features": {"containerd-snapshotter": true} in its daemon.json; otherwise images are identified by config only'
        return note("engine", f"{message}, which keeps no manifests", remedy)
    return well("engine", f"{message} (containerd image store)")


def plugins(versions: Mapping[str, str | None]) -> Diagnosis:
    """Check that docker has the command-line plugins; `versions` has None for a missing plugin."""
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return fault(
            "plugins",
            EngineError(
                f"docker finds no plugin {' and no plugin '.join(missing)}", hint="scripts/machine/engine ensure"
            ),
        )
    return well("plugins", ", ".join(f"{name} {version}" for name, version in versions.items()))


def gpus(devices: int, *, driver: str | None, cuda: str | None, facts: EngineFacts) -> Diagnosis:
    """Check that containers can use the GPUs, and that the driver supports the lock's CUDA."""
    if devices == 0:
        return well("gpu", "no NVIDIA device: training runs on the CPU")
    message = f"{counted(devices, 'NVIDIA device')}, driver {driver or 'unknown'}"
    if not facts.nvidia:
        remedy = "install nvidia-container-toolkit, `nvidia-ctk runtime configure --runtime=docker`, restart Docker, then scripts/setup"
        return fault(
            "gpu", MachineError(f"{message}, but the engine has no runtime that passes them to containers", hint=remedy)
        )
    needed = OLDEST_DRIVER.get((cuda or "").partition(".")[0])
    major = re.match(r"\d+", driver or "")
    if needed and major and int(major[0]) < needed:
        message = f"{message}; the environment `cuda` has CUDA {cuda}, which needs driver {needed} or newer"
        return fault("gpu", MachineError(message, hint="install a newer driver, or `scripts/setup --environment cpu`"))
    return well("gpu", f"{message}; the lock's CUDA is {cuda or 'unknown'}")


def disk(folder: Path, free: int, *, environment: str) -> Diagnosis:
    """Check that `folder` has enough free space for a build; `free` is in bytes."""
    gigabytes = free / 1e9
    needed = ROOM.get(environment, ROOM["cpu"])
    if gigabytes < needed:
        message = (
            f"{gigabytes:.0f} GB free at {folder}; building the environment {environment!r} takes up to {needed} GB"
        )
        return fault("disk", DiskFullError(message, hint="docker system prune, or a larger disk"))
    return well("disk", f"{gigabytes:.0f} GB free at {folder}")


def dotenv(before: Mapping[str, str], current: Mapping[str, str], *, edited: bool, shadows: Iterable[str]) -> Diagnosis:
    """Compare the managed block with the values that setup would write now."""
    if not before:
        return fault("setup", DotenvError(".env has no managed block", hint="scripts/setup --build"))
    differing = sorted(name for name in before.keys() | current.keys() if before.get(name, "") != current.get(name, ""))
    if differing:
        return fault(
            "setup",
            DotenvError(
                f".env is stale: {', '.join(differing)} would change",
                hint="scripts/setup --build" if any("IMAGE" in name for name in differing) else "scripts/setup",
            ),
        )
    if edited:
        return fault(
            "setup",
            DotenvError(
                "the managed block in .env was edited by hand",
                hint="scripts/setup restores it; write your own lines outside of the block",
            ),
        )
    if repeated := list(shadows):
        return note("setup", f".env also sets {', '.join(repeated)} outside of the managed block", "remove those lines")
    if not current.get("REPRISE_IMAGE"):
        return fault(
            "setup", DotenvError("the image of this checkout's lock is not built", hint="scripts/setup --build")
        )
    return well("setup", f".env is current; {current['REPRISE_ENVIRONMENT']} is {current['REPRISE_IMAGE']}")


def exit_code(findings: Iterable[Diagnosis]) -> int:
    """Return the code of the first fault; 0 if there is none."""
    return next((finding.code for finding in findings if finding.state is Severity.FAULT), 0)
