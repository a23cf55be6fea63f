"""Setting a checkout up for this machine: the values of the managed block of `.env`.

Knows what compose and the containers must be told, and where each value comes from. Refuses to build, and to print.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.actions.build_image import BASE_LABEL, current, plan
from trainer.actions.pin import check_inputs, hold
from trainer.environment import load_environment, load_pin
from trainer.errors import ImageMissingError, PortTakenError, UsageError
from trainer.host.atomic import disk_faults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.actions.build_image import Built
    from trainer.engine import Engine
    from trainer.environment import Pin

ROOTS_STAND_IN: Final = 1000
"""The uid and gid of containers where the host's user is root: nothing runs as root in them."""
LOCAL_STORE: Final = "s3://reprise"
STORE_PORT: Final = 8333
_BUILD: Final = "scripts/setup --build"
_IDENTITY: Final = ("REPRISE_IMAGE", "REPRISE_IMAGE_CONFIG", "REPRISE_IMAGE_LAYERS", "REPRISE_BUILD_ID")
_DEVELOPMENT: Final = ("REPRISE_DEV_IMAGE", "REPRISE_DEV_IMAGE_CONFIG", "REPRISE_DEV_IMAGE_LAYERS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the user chose; None leaves what the block says, else the default."""

    environment: str | None = None
    store: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose files a container writes."""

    uid: int
    gid: int


def owner(uid: int, gid: int) -> Owner:
    """The user itself; for root the stand-in."""
    return Owner(uid=ROOTS_STAND_IN, gid=ROOTS_STAND_IN) if uid == 0 else Owner(uid=uid, gid=gid)


def machine_values(root: Path, *, who: Owner, nvidia: bool, ca: Path | None) -> dict[str, str]:
    """What follows from the machine alone."""
    return {
        "COMPOSE_PROJECT_NAME": f"reprise-{hashlib.sha256(str(root).encode()).hexdigest()[:6]}",
        "COMPOSE_FILE": compose_files(gpu=nvidia),
        "REPRISE_UID": str(who.uid),
        "REPRISE_GID": str(who.gid),
        "REPRISE_CA_FILE": str(ca or ""),
        "REPRISE_HOST": platform.node(),
    }


def compose_files(*, gpu: bool) -> str:
    """The files that compose reads: with the GPUs' reservation, where there are any for the environment."""
    return "compose.yaml:compose.gpu.yaml" if gpu else "compose.yaml"


def environment_name(choice: Choice, before: Mapping[str, str], *, nvidia: bool) -> str:
    """The environment that training runs in: what was chosen, what stood there, what fits the machine."""
    return choice.environment or before.get("REPRISE_ENVIRONMENT") or ("cuda" if nvidia else "cpu")


def store_values(choice: Choice, before: Mapping[str, str], *, port: int) -> dict[str, str]:
    """Where the store is, for host and containers, and the local one's key, generated once. Raises `UsageError`."""
    address = choice.store or before.get("REPRISE_STORE") or LOCAL_STORE
    endpoint = choice.endpoint or ("" if choice.store else before.get("REPRISE_STORE_ENDPOINT", ""))
    local = address == LOCAL_STORE and endpoint in {"", "http://store:8333"}
    if not local:
        if not address.startswith("s3://"):
            raise UsageError(
                f"--store {address}: expected s3://BUCKET or s3://BUCKET/PREFIX",
                hint="a folder can be a store without compose",
            )
        there = endpoint or "https://s3.amazonaws.com"
        return {
            "REPRISE_STORE": address,
            "REPRISE_STORE_ENDPOINT": there,
            "AWS_ENDPOINT_URL_S3": there,
            "COMPOSE_PROFILES": "",
        }
    return {
        "REPRISE_STORE": LOCAL_STORE,
        "REPRISE_STORE_ENDPOINT": "http://store:8333",
        "REPRISE_STORE_PORT": str(port),
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": before.get("AWS_ACCESS_KEY_ID") or f"reprise{secrets.token_hex(6)}",
        "AWS_SECRET_ACCESS_KEY": before.get("AWS_SECRET_ACCESS_KEY") or secrets.token_hex(20),
        "AWS_DEFAULT_REGION": "us-east-1",
        "COMPOSE_PROFILES": "store",
    }


def built_values(built: Built) -> dict[str, str]:
    """The identity of an image that was built here."""
    layers = ",".join(built.layers)
    return dict(zip(_IDENTITY, (built.reference, built.config, layers, built.plan.build_id), strict=True))


def pinned_values(pin: Pin) -> dict[str, str]:
    """The identity of an image that is pinned."""
    identity = dict(zip(_IDENTITY, (pin.reference, pin.config, ",".join(pin.layers), pin.build_id), strict=True))
    return identity | {"REPRISE_PULL": "missing"}


def image_values(environment: str, *, engine: Engine, root: Path) -> dict[str, str]:
    """What compose runs, by digest: the environment's image, pinned or built here; the store's; the developers'.

    What was not built yet is not named. Raises `ImageMissingError`, `PinError` where a pin cannot be obeyed.
    """
    values = _identity(environment, engine=engine, root=root)
    if store := store_image(engine=engine, root=root):
        values["REPRISE_STORE_IMAGE"] = store
    if development := current(environment, stage="development", engine=engine, root=root):
        own = zip(_DEVELOPMENT, (development.reference, development.config, ",".join(development.layers)), strict=True)
        values.update(own)
    return values


def store_image(*, engine: Engine, root: Path) -> str | None:
    """What the local store runs in: the image of this lock; until that is built the newest of an earlier one.

    The server only keeps bytes: nothing of a run depends on it.
    """
    if built := current("store", stage="environment", engine=engine, root=root):
        return built.reference
    earlier = next(iter(engine.images("reprise.environment=store")), None)
    return next(iter(earlier.references), earlier.id) if earlier else None


def once_values(environment: str, *, engine: Engine, root: Path) -> dict[str, str]:
    """What compose is told to run an environment once, whatever `.env` says: its image, pinned or built here, and its GPUs.

    Raises `ImageMissingError`, `PinError` as `image_values` does.
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
    built = current(environment, stage="environment", engine=engine, root=root)
    return built_values(built) if built else {}


def engine_base(pinned: Pin, *, engine: Engine) -> str:
    """The base that a pinned image was built on, as it says itself; the pin is obeyed or this fails."""
    hold(pinned, engine=engine)
    image = engine.image(pinned.reference)
    return image.labels.get(BASE_LABEL, "") if image else ""


def prepare_folders(root: Path, who: Owner) -> None:
    """Make the folders that containers mount; the engine would make them root's. Raises `NotWritableError`.

    runs/ is given to the containers' user where the host's is root.
    """
    runs = root / "runs"
    with disk_faults(runs):
        for folder in (runs, root / ".venv", root / ".reprise"):
            folder.mkdir(exist_ok=True)
        if os.getuid() == 0 and runs.stat().st_uid != who.uid:
            os.chown(runs, who.uid, who.gid)


def check_port(port: int, *, again: str = "scripts/setup") -> None:
    """Refuse a port that another program listens on; the hint is `again`, with a free one. Raises `PortTakenError`."""
    if _is_free(port):
        return
    said = f"port {port} on 127.0.0.1 is taken by another program; the local store needs one"
    other = next((near for near in range(port + 10, min(port + 1000, 1 << 16), 10) if _is_free(near)), "PORT")
    raise PortTakenError(said, hint=f"REPRISE_STORE_PORT={other} {again}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def require_images(values: Mapping[str, str], *, engine: Engine) -> None:
    """Refuse to start compose where the engine lacks an image that `.env` names, since compose could not say what to do.

    A pinned image is pulled. The store's is asked for only where its server has still to be started. Raises `ImageMissingError`.
    """
    wanted = [] if values.get("REPRISE_PULL") else ["REPRISE_IMAGE"]
    if values.get("COMPOSE_PROFILES") == "store" and not engine.serves(values.get("COMPOSE_PROJECT_NAME", ""), "store"):
        wanted.append("REPRISE_STORE_IMAGE")
    for name in wanted:
        reference = values.get(name)
        if not reference:
            raise ImageMissingError(f"{name} is not in .env: that image was not built yet", hint=_BUILD)
        if engine.image(reference) is None:
            said = f"the image that .env names as {name} is not in the engine: {reference}"
            raise ImageMissingError(said, hint=f"{_BUILD} brings it back")
