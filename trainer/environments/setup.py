"""Setting up a checkout for this machine: the values of the managed block of `.env`, and the conditions that they must meet."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import secrets
import shlex
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trainer.base.atomic_file import disk_faults
from trainer.base.disk_errors import disk_fault
from trainer.base.errors import (
    EnvironmentNameError,
    ImageMissingError,
    MachineError,
    NotWritableError,
    PortTakenError,
    StoreMissingError,
    UsageError,
)
from trainer.base.git import repository_of_worktree
from trainer.environments.build import BASE_LABEL, find_built_image, plan
from trainer.environments.declaration import environment_names, load_environment, load_pin
from trainer.environments.pin import check_inputs, require_pinned_image
from trainer.stores.address import AWS_ENDPOINT, LOCAL_ENDPOINT, folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.environments.build import BuiltImage
    from trainer.environments.declaration import Pin
    from trainer.environments.engine import Engine, LocalStore

ROOTS_STAND_IN: Final = 1000
"""The uid and gid of containers if the host's user is root: nothing in them runs as root."""
LOCAL_STORE: Final = "s3://reprise"
STORE_PORT: Final = 8333
_BUILD: Final = "scripts/setup --build"
_IDENTITY: Final = ("REPRISE_IMAGE", "REPRISE_IMAGE_CONFIG", "REPRISE_IMAGE_LAYERS", "REPRISE_BUILD_ID")
_DEVELOPMENT: Final = ("REPRISE_DEV_IMAGE", "REPRISE_DEV_IMAGE_CONFIG", "REPRISE_DEV_IMAGE_LAYERS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The user's options; `None` keeps the value of the block, or takes the default."""

    environment: str | None = None
    store: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The user and group that containers run as."""

    uid: int
    gid: int


def owner(uid: int, gid: int) -> Owner:
    """Return the given user, or the stand-in for root."""
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
    """Return the folder; `None` if it cannot be mounted at its own path or be written into `.env`."""
    if folder is None or not folder.is_dir() or hides_image(folder) or set("'\n") & set(str(folder)):
        return None
    return folder


def project_name(root: Path) -> str:
    """Return the compose project of a checkout."""
    return f"reprise-{hashlib.sha256(str(root).encode()).hexdigest()[:6]}"


def compose_files(*, gpu: bool) -> str:
    """Return the files that compose reads, with the reservation of GPUs if they are used."""
    return "compose.yaml:compose.gpu.yaml" if gpu else "compose.yaml"


def environment_name(choice: Choice, before: Mapping[str, str], *, nvidia: bool) -> str:
    """Return the environment of trainings: the user's choice, the value of the block, or the machine's default."""
    return choice.environment or before.get("REPRISE_ENVIRONMENT") or ("cuda" if nvidia else "cpu")


def require_environment(values: Mapping[str, str], *, root: Path) -> None:
    """Raise `EnvironmentNameError` if the checkout does not declare the environment in `.env`."""
    name, declared = values.get("REPRISE_ENVIRONMENT"), environment_names(root)
    if name and name not in declared:
        message = f".env has environment {name!r}, but this checkout has no environments/{name}.toml"
        listed = ", ".join(each for each in declared if each != "store")[:200]
        other = "cpu" if "cpu" in declared else next(iter(declared), "NAME")
        raise EnvironmentNameError(message, hint=f"scripts/setup --environment {other}; declared: {listed}")


def is_local(choice: Choice, before: Mapping[str, str]) -> bool:
    """Return whether the store is the local store of this or another checkout on this machine."""
    address, endpoint = _store_and_endpoint(choice, before)
    return address == LOCAL_STORE and (endpoint in {"", LOCAL_ENDPOINT} or _loopback_port(endpoint) is not None)


def store_values(
    choice: Choice, before: Mapping[str, str], *, port: int, joined: LocalStore | None = None
) -> dict[str, str]:
    """Return the store's values for host and containers: a folder, a bucket, the local store of this checkout, or `joined` of another.

    The key of the local store is generated once. Raise `UsageError`.
    """
    address, endpoint = _store_and_endpoint(choice, before)
    if (folder := folder_of(address)) is not None:
        if choice.endpoint:
            raise UsageError(f"--endpoint {choice.endpoint}: a folder has no endpoint", hint=f"--store {address} alone")
        return {"REPRISE_STORE": str(folder), "REPRISE_STORE_FOLDER": str(folder), "COMPOSE_PROFILES": ""}
    if not is_local(choice, before):
        return _bucket_values(address, endpoint)
    # Its key is not in AWS_ACCESS_KEY_ID, which may hold the key of another server.
    values = {
        "REPRISE_STORE": LOCAL_STORE,
        "REPRISE_STORE_ENDPOINT": LOCAL_ENDPOINT,
        "REPRISE_STORE_PORT": str(joined.port if joined else port),
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{joined.port if joined else port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "REPRISE_STORE_TOKEN": "",
    }
    if joined:
        return values | {
            "REPRISE_STORE_KEY": joined.key,
            "REPRISE_STORE_SECRET": joined.secret,
            "REPRISE_STORE_NETWORK": joined.network,
            "REPRISE_STORE_JOINED": "true",
            "REPRISE_STORE_VOLUME": joined.volume,
            "REPRISE_STORE_SHARED": "true",
            "COMPOSE_PROFILES": "",
        }
    volume = before.get("REPRISE_STORE_VOLUME")
    return (
        values
        | {
            "REPRISE_STORE_KEY": before.get("REPRISE_STORE_KEY") or f"reprise{secrets.token_hex(6)}",
            "REPRISE_STORE_SECRET": before.get("REPRISE_STORE_SECRET") or secrets.token_hex(20),
            "COMPOSE_PROFILES": "store",
        }
        | ({"REPRISE_STORE_VOLUME": volume, "REPRISE_STORE_SHARED": "true"} if volume else {})
    )


def _store_and_endpoint(choice: Choice, before: Mapping[str, str]) -> tuple[str, str]:
    address = choice.store or before.get("REPRISE_STORE") or LOCAL_STORE
    stays = choice.store in {None, before.get("REPRISE_STORE")}
    return address, choice.endpoint or (before.get("REPRISE_STORE_ENDPOINT", "") if stays else "")


def _bucket_values(address: str, endpoint: str) -> dict[str, str]:
    if "?" in address:
        raise UsageError(f"--store {address}: expected s3://BUCKET or s3://BUCKET/PREFIX", hint="--endpoint URL")
    url = endpoint or AWS_ENDPOINT
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint {url}: expected http://HOST or https://HOST", hint=f"--endpoint https://{url}")
    if _loopback_port(url) is not None:
        message = f"--endpoint {url} is on this machine's loopback, which containers cannot reach"
        raise UsageError(message, hint="use the server's address in the network")
    return {
        "REPRISE_STORE": address,
        "REPRISE_STORE_ENDPOINT": url,
        "AWS_ENDPOINT_URL_S3": url,
        "COMPOSE_PROFILES": "",
    }


def _loopback_port(endpoint: str) -> int | None:
    """Return the port of an endpoint on this machine's loopback; `None` for another endpoint."""
    url = urlsplit(endpoint)
    is_loopback = url.hostname == "localhost" or str(url.hostname).startswith("127.") or url.hostname == "::1"
    return (url.port or 80) if is_loopback else None


def store_to_join(
    choice: Choice, before: Mapping[str, str], *, port: int, project: str, engine: Engine
) -> LocalStore | None:
    """Return the running local store of another checkout that this checkout is to use; `None` if it has its own.

    It is the store that serves this checkout's volume, which no second server can; else the store on the port of --endpoint or of this
    checkout. A checkout with its own local store keeps it unless --endpoint is given. Raise `PortTakenError`, `UsageError`.
    """
    requested, own = _loopback_port(choice.endpoint or ""), own_volume(before, project)
    others = {store.port: store for store in engine.local_stores() if store.project != project}
    serving = next((store for store in others.values() if store.volume == own), None)
    if serving and requested in {None, serving.port}:
        return serving
    other = others.get(requested or port)
    if requested is not None and other is None and requested != port:
        raise UsageError(
            f"no local store of Reprise runs on port {requested} of this machine",
            hint=f"start it: docker compose up -d store, in its checkout; running: {sorted(others) or 'none'}",
        )
    if other is None or requested is not None or not engine.has_volume(own):
        return other
    message = f"port {port} on 127.0.0.1 is the local store of another checkout ({other.project}), but this checkout has its own ({own})"
    free = _free_port(port)
    raise PortTakenError(
        message,
        hint=f"REPRISE_STORE_PORT={free} scripts/setup keeps this checkout's store; "
        f"scripts/setup --endpoint http://127.0.0.1:{port} uses the other store",
    )


def own_volume(before: Mapping[str, str], project: str) -> str:
    """Return the volume of this checkout's local store, which may be shared with another checkout."""
    return before.get("REPRISE_STORE_VOLUME") or f"{project}_store"


def require_folder(folder: Path, *, user: Owner, root: Path) -> None:
    """Raise `UsageError`, `StoreMissingError`, `MachineError` if containers cannot use a folder as a store."""
    if folder.is_relative_to(root):
        message = f"store folder {folder} is inside this checkout, where it would be part of every run's source"
        raise UsageError(message, hint="use a folder outside of it, such as /srv/reprise")
    if hides_image(folder):
        message = f"store folder {folder} would hide a folder of the image: containers mount the store at its own path"
        raise UsageError(message, hint="use another folder, such as /srv/reprise")
    if ":" in str(folder):
        raise UsageError(
            f"store folder {folder} has a colon, which mounts cannot have", hint="use a path without a colon"
        )
    if not folder.is_dir():
        message = (
            f"store folder {folder} is not a folder" if folder.exists() else f"store folder {folder} does not exist"
        )
        raise StoreMissingError(
            message, hint=f"mount the share, or create a new store: mkdir -p {shlex.quote(str(folder))}"
        )
    as_user = {"user": user.uid, "group": user.gid, "extra_groups": []} if os.getuid() == 0 else {}
    environ = os.environ | {"LC_ALL": "C"}
    result = subprocess.run(  # type: ignore[call-overload]
        ["sh", "-c", _TRY], cwd=folder, env=environ, capture_output=True, check=False, **as_user
    )
    if result.returncode:
        raise folder_error(folder, user=user, output=result.stderr.decode(errors="replace"))


def hides_image(folder: Path) -> bool:
    """Return whether a folder, mounted at its own path, would hide a folder of the image."""
    return str(folder) in _IMAGE_FOLDERS or any(folder.is_relative_to(path) for path in _HIDDEN_IN_IMAGES)


def folder_error(folder: Path, *, user: Owner, output: str) -> MachineError:
    """Return the error for a folder that containers cannot use, by a program's `output`: a fault of the disk, or the owner."""
    for number in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EIO):
        if os.strerror(number) in output:
            return disk_fault(OSError(number, os.strerror(number)), folder)
    sentence = (
        f"store folder {folder} cannot be read and written by containers, which run as uid {user.uid}, gid {user.gid}"
    )
    path = shlex.quote(str(folder))
    return NotWritableError(sentence, hint=f"chown -R {user.uid}:{user.gid} {path} && chmod -R u+rwX {path}")


# Run in the folder itself: containers mount it even if their user cannot enter the folders above it.
_TRY: Final = """
for folder in ./ */ objects/sha256/; do
    [ -d "$folder" ] || [ "$folder" = ./ ] || continue
    ls "$folder" >/dev/null && file=$(mktemp "$folder.new-XXXXXX") && rm "$file" || exit 1
done
"""
_IMAGE_FOLDERS: Final = {"/", "/home", "/home/reprise", "/opt", "/run", "/tmp", "/var", "/boot", "/root"}  # noqa: S108 - not used as one
_HIDDEN_IN_IMAGES: Final = (
    *("/bin", "/cache", "/dev", "/etc", "/lib", "/lib64", "/proc", "/project", "/sbin", "/sys", "/usr"),
    *("/opt/reprise", "/opt/venv"),
)


def built_values(built: BuiltImage) -> dict[str, str]:
    """Return the identity of a locally built image."""
    layers = ",".join(built.layers)
    return dict(zip(_IDENTITY, (built.reference, built.config, layers, built.plan.build_id), strict=True))


def pinned_values(pin: Pin) -> dict[str, str]:
    """Return the identity of a pinned image."""
    identity = dict(zip(_IDENTITY, (pin.reference, pin.config, ",".join(pin.layers), pin.build_id), strict=True))
    return identity | {"REPRISE_PULL": "missing"}


def image_values(environment: str, *, engine: Engine, root: Path) -> dict[str, str]:
    """Return the digests of the images that compose runs: of the environment, of the store and for development.

    Images that are not built yet are left out. Raise `ImageMissingError`, `PinError` if the engine does not have the pinned image.
    """
    values = _identity(environment, engine=engine, root=root)
    if store := store_image(engine=engine, root=root):
        values["REPRISE_STORE_IMAGE"] = store
    if development := find_built_image(environment, stage="development", engine=engine, root=root):
        own = zip(_DEVELOPMENT, (development.reference, development.config, ",".join(development.layers)), strict=True)
        values.update(own)
    return values


def store_image(*, engine: Engine, root: Path) -> str | None:
    """Return the image of the local store: of this lock, or the newest earlier one, since no run depends on the server's version."""
    if built := find_built_image("store", stage="environment", engine=engine, root=root):
        return built.reference
    earlier = next(iter(engine.images("reprise.environment=store")), None)
    return next(iter(earlier.references), earlier.id) if earlier else None


def single_run_values(environment: str, *, engine: Engine, root: Path) -> dict[str, str]:
    """Return the values that run an environment once, regardless of `.env`: its image and its GPUs.

    Raise `ImageMissingError`, `PinError`.
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
    """Return the base of a pinned image, from its label. Raise `ImageMissingError`, `PinError`."""
    require_pinned_image(pinned, engine=engine)
    image = engine.image(pinned.reference)
    return image.labels.get(BASE_LABEL, "") if image else ""


def prepare_folders(root: Path, user: Owner) -> None:
    """Create the folders that containers mount, which the engine would create as root. Raise `NotWritableError`.

    If the host's user is root, runs/ is given to the user of the containers.
    """
    runs = root / "runs"
    with disk_faults(runs):
        for folder in (runs, root / ".venv", root / ".reprise"):
            folder.mkdir(exist_ok=True)
        if os.getuid() == 0 and runs.stat().st_uid != user.uid:
            os.chown(runs, user.uid, user.gid)


def check_port(port: int, *, command: str = "scripts/setup") -> None:
    """Raise `PortTakenError` if a program listens on the port; the hint is `command` with a free port."""
    if _is_free(port):
        return
    message = f"port {port} on 127.0.0.1 is taken by another program; the local store needs a free port"
    raise PortTakenError(message, hint=f"REPRISE_STORE_PORT={_free_port(port)} {command}")


def _free_port(port: int) -> int | str:
    return next(
        (candidate for candidate in range(port + 10, min(port + 1000, 1 << 16), 10) if _is_free(candidate)), "PORT"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def require_images(values: Mapping[str, str], *, engine: Engine) -> None:
    """Raise `ImageMissingError` if the engine lacks an image that `.env` names.

    A pinned image is not checked, since compose pulls it. The store's image is checked only if its server does not run yet.
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
