"""The store of a checkout: its values in the managed block of `.env`, the use of another checkout's local store, and store folders."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trainer.base.disk_errors import disk_fault
from trainer.base.errors import MachineError, NotWritableError, PortTakenError, StoreMissingError, UsageError
from trainer.stores.address import AWS_ENDPOINT, LOCAL_ENDPOINT, folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.environments.engine import Engine, LocalStore

LOCAL_STORE: Final = "s3://reprise"
STORE_PORT: Final = 8333


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The user's options; `None` keeps the value of the block, or uses the default."""

    environment: str | None = None
    store: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The user and group that containers run as."""

    uid: int
    gid: int


def is_local(choice: Choice, before: Mapping[str, str]) -> bool:
    """Return whether the store is the local store of this or another checkout on this machine."""
    address, endpoint = _store_and_endpoint(choice, before)
    return address == LOCAL_STORE and (endpoint in {"", LOCAL_ENDPOINT} or _loopback_port(endpoint) is not None)


def store_values(
    choice: Choice, before: Mapping[str, str], *, port: int, joined: LocalStore | None = None
) -> dict[str, str]:
    """Return the store's values for host and containers. The store is a folder, a bucket, this checkout's local store, or `joined`.

    The key of the local store is generated once. Raise `UsageError` if the choice is invalid.
    """
    address, endpoint = _store_and_endpoint(choice, before)
    if (folder := folder_of(address)) is not None:
        if choice.endpoint:
            raise UsageError(f"--endpoint {choice.endpoint}: a folder has no endpoint", hint=f"--store {address} alone")
        return {"REPRISE_STORE": str(folder), "REPRISE_STORE_FOLDER": str(folder), "COMPOSE_PROFILES": ""}
    if not is_local(choice, before):
        return _bucket_values(address, endpoint)
    # The key of the local store is not in AWS_ACCESS_KEY_ID, which may hold the key of another server.
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
    """Return the running local store of another checkout that this checkout uses; `None` if this checkout uses its own.

    This is the store that serves this checkout's volume, since only one server can serve a volume; otherwise the store on the port of
    --endpoint or of this checkout. A checkout with its own local store keeps it unless --endpoint is given. Raise `PortTakenError` if both
    stores have the same port, and `UsageError` if no store runs on the port of --endpoint.
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
    """Raise `UsageError`, `StoreMissingError` or `MachineError` if containers cannot use a folder as a store."""
    if folder.is_relative_to(root):
        message = f"store folder {folder} is inside this checkout, where it would be part of every run's source"
        raise UsageError(message, hint="use a folder outside of the checkout, such as /srv/reprise")
    if hides_image(folder):
        message = f"store folder {folder} would hide a folder of the image: containers mount the store at its own path"
        raise UsageError(message, hint="use another folder, such as /srv/reprise")
    if ":" in str(folder):
        raise UsageError(
            f"store folder {folder} has a colon and cannot be mounted into a container",
            hint="use a path without a colon",
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
    """Return the error for a folder that containers cannot use, from the `output` of the test program: a disk fault or a wrong owner."""
    for number in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EIO):
        if os.strerror(number) in output:
            return disk_fault(OSError(number, os.strerror(number)), folder)
    sentence = (
        f"store folder {folder} cannot be read and written by containers, which run as uid {user.uid}, gid {user.gid}"
    )
    path = shlex.quote(str(folder))
    return NotWritableError(sentence, hint=f"chown -R {user.uid}:{user.gid} {path} && chmod -R u+rwX {path}")


# Runs in the folder itself: containers mount it even if their user cannot enter the folders above it.
_TRY: Final = """
for folder in ./ */ objects/sha256/; do
    [ -d "$folder" ] || [ "$folder" = ./ ] || continue
    ls "$folder" >/dev/null && file=$(mktemp "$folder.new-XXXXXX") && rm "$file" || exit 1
done
"""
_IMAGE_FOLDERS: Final = {"/", "/home", "/home/reprise", "/opt", "/run", "/tmp", "/var", "/boot", "/root"}  # noqa: S108 - compared, not written
_HIDDEN_IN_IMAGES: Final = (
    *("/bin", "/cache", "/dev", "/etc", "/lib", "/lib64", "/proc", "/project", "/sbin", "/sys", "/usr"),
    *("/opt/reprise", "/opt/venv"),
)


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
