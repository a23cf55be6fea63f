"""The values of the managed block in a checkout's `.env`: of the machine and of its images, and the conditions that they must meet."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import EnvironmentNameError, ImageMissingError, MachineError, NotWritableError, UsageError
from trainer.base.git import repository_of_worktree
from trainer.environments.build import BASE_LABEL, find_built_image, plan
from trainer.environments.declaration import environment_names, load_environment, load_pin
from trainer.environments.engine.compose import require_no_colon
from trainer.environments.pin import check_inputs, require_pinned_image
from trainer.environments.store_setup import Owner, hides_image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.environments.build import BuiltImage
    from trainer.environments.declaration import Pin
    from trainer.environments.engine import Engine
    from trainer.environments.store_setup import Choice

ROOTS_STAND_IN: Final = 1000
"""The uid and gid of containers if the host's user is root: no process in a container runs as root."""
_BUILD: Final = "scripts/setup --build"
_IDENTITY: Final = ("REPRISE_IMAGE", "REPRISE_IMAGE_CONFIG", "REPRISE_IMAGE_LAYERS", "REPRISE_BUILD_ID")
_DEVELOPMENT: Final = ("REPRISE_DEV_IMAGE", "REPRISE_DEV_IMAGE_CONFIG", "REPRISE_DEV_IMAGE_LAYERS")


def owner(uid: int, gid: int) -> Owner:
    """Return the user that containers run as: the given user, or a stand-in for root."""
    return Owner(uid=ROOTS_STAND_IN, gid=ROOTS_STAND_IN) if uid == 0 else Owner(uid=uid, gid=gid)


def machine_values(root: Path, *, user: Owner, nvidia: bool, ca: Path | None) -> dict[str, str]:
    """Return the values that depend only on the machine."""
    return {
        "COMPOSE_PROJECT_NAME": project_name(root),
        "COMPOSE_FILE": compose_files(gpu=nvidia),
        "REPRISE_UID": str(user.uid),
        "REPRISE_GID": str(user.gid),
        "REPRISE_CA_FILE": str(ca or ""),
        "REPRISE_HOST": platform.node(),
        "REPRISE_GIT_FOLDER": str(_mountable(repository_of_worktree(root)) or ""),
    }


def _mountable(folder: Path | None) -> Path | None:
    """Return the folder; `None` if it cannot be mounted at its own path, or cannot be written into `.env`."""
    if folder is None or not folder.is_dir() or hides_image(folder) or set("'\n") & set(str(folder)):
        return None
    return folder


def project_name(root: Path) -> str:
    """Return the compose project of a checkout."""
    return f"reprise-{hashlib.sha256(str(root).encode()).hexdigest()[:6]}"


def compose_files(*, gpu: bool) -> str:
    """Return the files that compose reads, with the file that reserves GPUs if `gpu` is true."""
    return "compose.yaml:compose.gpu.yaml" if gpu else "compose.yaml"


def environment_name(choice: Choice, before: Mapping[str, str], *, nvidia: bool) -> str:
    """Return the environment of training runs: the user's choice, the value of the block, or the machine's default."""
    return choice.environment or before.get("REPRISE_ENVIRONMENT") or ("cuda" if nvidia else "cpu")


def require_environment(values: Mapping[str, str], *, root: Path) -> None:
    """Raise `EnvironmentNameError` if the checkout does not declare the environment in `.env`."""
    name, declared = values.get("REPRISE_ENVIRONMENT"), environment_names(root)
    if name and name not in declared:
        message = f".env has environment {name!r}, but this checkout has no environments/{name}.toml"
        listed = ", ".join(each for each in declared if each != "store")[:200]
        other = "cpu" if "cpu" in declared else next(iter(declared), "NAME")
        raise EnvironmentNameError(message, hint=f"scripts/setup --environment {other}; declared: {listed}")


def built_values(built: BuiltImage) -> dict[str, str]:
    """Return the identity of a locally built image."""
    layers = ",".join(built.layers)
    return dict(zip(_IDENTITY, (built.reference, built.config, layers, built.plan.build_id), strict=True))


def pinned_values(pin: Pin) -> dict[str, str]:
    """Return the identity of a pinned image."""
    identity = dict(zip(_IDENTITY, (pin.reference, pin.config, ",".join(pin.layers), pin.build_id), strict=True))
    return identity | {"REPRISE_PULL": "missing"}


def image_values(environment: str, *, engine: Engine, root: Path) -> dict[str, str]:
    """Return the values that identify the images of the environment, of the store and for development.

    Images that are not built yet are omitted. Raise `ImageMissingError` if the engine does not have the pinned image, and `PinError` if
    the image or the checkout does not match the pin.
    """
    values = _identity(environment, engine=engine, root=root)
    if store := store_image(engine=engine, root=root):
        values["REPRISE_STORE_IMAGE"] = store
    if development := find_built_image(environment, stage="development", engine=engine, root=root):
        own = zip(_DEVELOPMENT, (development.reference, development.config, ",".join(development.layers)), strict=True)
        values.update(own)
    return values


def store_image(*, engine: Engine, root: Path) -> str | None:
    """Return the image of the local store: of this lock, or the newest other one, since no run depends on the server's version."""
    if built := find_built_image("store", stage="environment", engine=engine, root=root):
        return built.reference
    earlier = next(iter(engine.images("reprise.environment=store")), None)
    return next(iter(earlier.references), earlier.id) if earlier else None


def single_run_values(environment: str, *, engine: Engine, root: Path) -> dict[str, str]:
    """Return the values that run an environment once, regardless of `.env`: its image and its GPUs.

    Raise `ImageMissingError` or `PinError` as `image_values` does.
    """
    gpu = engine.facts().nvidia and "cuda" in load_environment(environment, root=root).extras
    values = _identity(environment, engine=engine, root=root)
    return values | {"REPRISE_ENVIRONMENT": environment, "COMPOSE_FILE": compose_files(gpu=gpu)}


def _identity(environment: str, *, engine: Engine, root: Path) -> dict[str, str]:
    pinned = load_pin(environment, root=root)
    if pinned is not None:
        base = engine_base(pinned, engine=engine)
        check_inputs(pinned, plan(environment, stage="environment", base=base, root=root).build_id)
        return pinned_values(pinned)
    built = find_built_image(environment, stage="environment", engine=engine, root=root)
    return built_values(built) if built else {}


def engine_base(pinned: Pin, *, engine: Engine) -> str:
    """Return the base of a pinned image, from the image's label. Raise the errors of `require_pinned_image`."""
    require_pinned_image(pinned, engine=engine)
    image = engine.image(pinned.reference)
    return image.labels.get(BASE_LABEL, "") if image else ""


def prepare_folders(root: Path, user: Owner) -> None:
    """Create the folders that containers mount: the engine would create missing folders as root.

    If the host's user is root, the containers' user becomes the owner of runs/. Raise `NotWritableError` if a folder cannot be created.
    """
    runs = root / "runs"
    with disk_faults(runs):
        for folder in (runs, root / ".venv", root / ".reprise"):
            folder.mkdir(exist_ok=True)
        if os.getuid() == 0 and runs.stat().st_uid != user.uid:
            os.chown(runs, user.uid, user.gid)


def require_runs(folder: Path, *, user: Owner) -> None:
    """Raise `MachineError` if the containers of `user` cannot write a folder of runs, `UsageError` if they cannot mount it."""
    if not folder.is_dir():
        message = f"REPRISE_RUNS is {folder}, which is not a folder"
        raise MachineError(message, hint=f"mkdir -p {shlex.quote(str(folder))}, or unset REPRISE_RUNS")
    require_no_colon(folder)
    if hides_image(folder):
        message = (
            f"REPRISE_RUNS is {folder}, which would hide a folder of the image: containers mount it at the same path"
        )
        raise UsageError(message, hint="use another folder, such as /srv/runs")
    status = folder.stat()
    needed = 0o300 if status.st_uid == user.uid else 0o030 if status.st_gid == user.gid else 0o003
    if user.uid and status.st_mode & needed != needed:
        message = f"containers run as uid {user.uid}, which cannot write {folder}"
        raise NotWritableError(message, hint=f"chown {user.uid}:{user.gid} {shlex.quote(str(folder))}")


def require_images(values: Mapping[str, str], *, engine: Engine) -> None:
    """Raise `ImageMissingError` if the engine lacks an image that `.env` names.

    A pinned image is not checked, since compose pulls it. The store's image is checked only if the store is not running.
    """
    names = [] if values.get("REPRISE_PULL") else ["REPRISE_IMAGE"]
    if values.get("COMPOSE_PROFILES") == "store" and not engine.serves(values.get("COMPOSE_PROJECT_NAME", ""), "store"):
        names.append("REPRISE_STORE_IMAGE")
    for name in names:
        reference = values.get(name)
        if not reference:
            raise ImageMissingError(f"{name} is not in .env: the image is not built yet", hint=_BUILD)
        if engine.image(reference) is None:
            message = f"the image that .env names as {name} is not in the engine: {reference}"
            raise ImageMissingError(message, hint=_BUILD)
