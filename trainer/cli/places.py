"""Where things are: runs and the store, as the environment says, and on a host what `.env` adds to it.

Read here, at the edge, and nowhere deeper.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import StoreMissingError, UsageError
from trainer.environments.dotenv import all_values, user_values
from trainer.runs.image_claim import BAKED
from trainer.stores import open_store
from trainer.stores.address import AWS_ENDPOINT, LOCAL_ENDPOINT, Access, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.stores.contract import Store

CHECKOUT: Final = Path(__file__).resolve().parents[2]
TYPED: Final = "REPRISE_TYPED"
"""The command line that a script of ours was called with: what is to be typed again, once something was mended."""


def runs_folder() -> Path:
    """The folder of all runs: REPRISE_RUNS, else `runs/` of the checkout."""
    return Path(os.environ.get("REPRISE_RUNS") or CHECKOUT / "runs").absolute()


def typed_folder(path: Path) -> Path:
    """A run's folder that a person named by its path: links in it are theirs, but for one in the folder of runs."""
    return path.absolute() if path.absolute().parent == runs_folder() else path.resolve()


def is_folder(path: Path) -> bool:
    """Whether a path that a person typed is a folder; a name that no file system takes is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether a path that a person typed is a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def store_address() -> str | None:
    """The store's address: REPRISE_STORE; None where none is configured."""
    return os.environ.get("REPRISE_STORE") or None


def store_at(address: str) -> Store:
    """The store at an address: the one that `.env` names on the server that `.env` names, another one as the environment says.

    A container's messages name the local store's endpoint as the host's programs reach it. Raises `UsageError`, and `StoreMissingError`
    in a container in which the folder is not mounted.
    """
    if BAKED.exists():
        require_mounted(address, typed=sys.argv[1:])
    return open_store(address, access=_access(address, _told_by(CHECKOUT / ".env")))


def require_mounted(address: str, *, typed: Sequence[str]) -> None:
    """Raise `StoreMissingError` for a store folder that is not in this container; the hint is what was typed, as it works on the host."""
    folder = folder_of(address)
    if folder is None or folder.is_dir():
        return
    place, words = shlex.quote(str(folder)), [*typed]
    trains = not words or words[0].startswith(("-", "_")) or words[0] == "train"
    command = shlex.join(["scripts/train", *words[words[:1] == ["train"] :]] if trains else ["scripts/reprise", *words])
    raise StoreMissingError(
        f"store folder {folder} is not mounted in this container",
        hint=f"type on the host: REPRISE_STORE={place} {command}; or mount it for every command: scripts/setup --store {place}",
    )


def hand_in_store(dotenv: Path) -> None:
    """Have compose use the store that the environment names, if it is not the one of `.env`: a folder is mounted, a server is named.

    Compose reads these variables from this process's environment. Raises `UsageError`.
    """
    address = os.environ.get("REPRISE_STORE")
    told = _told_by(dotenv)
    if not address or address == told.get("REPRISE_STORE"):
        return
    folder = folder_of(address)
    os.environ |= {"COMPOSE_PROFILES": "", "REPRISE_STORE_FOLDER": str(folder or "")}
    os.environ |= {"REPRISE_STORE_KEY": "", "REPRISE_STORE_SECRET": ""}
    if folder is not None:
        os.environ["REPRISE_STORE"] = str(folder)
        return
    os.environ["REPRISE_STORE_TOKEN"] = os.environ.get("AWS_SESSION_TOKEN", "")
    os.environ.setdefault("REPRISE_STORE_ENDPOINT", os.environ.get("AWS_ENDPOINT_URL_S3") or AWS_ENDPOINT)


def two_stores(source: str | None, target: str | None, *, command: str) -> tuple[Store, Store]:
    """The stores that something is copied between; `source` is the configured one if None. Raises `UsageError`.

    The store that `.env` names is reached as `.env` says, another one as its address and the shell's AWS_* say: each has its own key.
    """
    if not target:
        raise UsageError("--store is missing: the store to push to", hint=f"{command} --store s3://BUCKET?endpoint=URL")
    origin = source or store_address()
    if not origin:
        raise UsageError("no store is configured to push from", hint=f"{command} --from ADDRESS --store {target}")
    found = _configured_or_at(origin), _configured_or_at(target)
    if found[0].label == found[1].label:
        raise UsageError(
            f"both stores are {found[0].label}", hint="an address can name another server: s3://BUCKET?endpoint=URL"
        )
    return found


def _configured_or_at(address: str) -> Store:
    told = _told_by(CHECKOUT / ".env")
    access = _access(address, told)
    if access.endpoint and not access.key and told.get("AWS_ACCESS_KEY_ID"):
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        key, secret, token = (told.get(name) or None for name in keys)
        access = replace(access, key=key, secret=secret, token=token)
    return open_store(address, access=access) if access.endpoint else store_at(address)


def _access(address: str, told: Mapping[str, str]) -> Access:
    """How the server of a store is reached: with an endpoint, if it is the store that `.env` names, and as boto3 finds otherwise."""
    endpoint = told.get("AWS_ENDPOINT_URL_S3")
    if address.rstrip("/") != told.get("REPRISE_STORE") or not endpoint:
        return Access(shown=_shown())
    names = ("REPRISE_STORE_KEY", "REPRISE_STORE_SECRET", "AWS_DEFAULT_REGION")
    key, secret, region = (told.get(name) or None for name in names)
    return Access(endpoint=endpoint, key=key, secret=secret, region=region)


def _shown() -> str | None:
    """The endpoint to name in messages, also in those about credentials that are not enough for a client."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return (os.environ.get("REPRISE_STORE_ON_HOST") if endpoint == LOCAL_ENDPOINT else None) or endpoint


def host_name() -> str:
    """This host's name: REPRISE_HOST, which compose hands in since a container's own name is made up; else the system's."""
    return os.environ.get("REPRISE_HOST") or platform.node() or "unknown"


def users() -> set[int]:
    """The ids that this user's processes have on this machine: its own, and that of the containers that `.env` names."""
    told = _told_by(CHECKOUT / ".env").get("REPRISE_UID", "")
    return {os.getuid(), *([int(told)] if told.isdecimal() else [])}


def cache_folder() -> Path:
    """The folder of the cache: REPRISE_CACHE, else the user's own."""
    return Path(os.environ.get("REPRISE_CACHE") or Path.home() / ".cache" / "reprise")


@contextmanager
def dotenv_adopted() -> Iterator[None]:
    """Let `.env` say where the store is, as `adopt_dotenv` does, until the block ends."""
    before = dict(os.environ)
    adopt_dotenv()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def adopt_dotenv(checkout: Path | None = None) -> None:
    """On a host, let `.env` say which store is used, and its own lines with which keys, if the environment does not.

    The server and the key that the managed block names are the configured store's alone: `store_at` reads them. In an image compose has
    said all of it. A file that this user cannot read says nothing.
    """
    path = (checkout or CHECKOUT) / ".env"
    told = _told_by(path)
    keys = {name: value for name, value in user_values(path).items() if name.startswith("AWS_")} if told else {}
    for name, value in {**keys, "REPRISE_STORE": told.get("REPRISE_STORE")}.items():
        if value:
            os.environ.setdefault(name, value)


def _told_by(path: Path) -> dict[str, str]:
    """What `.env` says; nothing in an image, or if this user cannot read the file."""
    if BAKED.exists() or not os.access(path, os.R_OK):
        return {}
    told = all_values(path)
    if told.get("COMPOSE_PROFILES") == "store":  # its port may have been edited since setup wrote its address
        port = os.environ.get("REPRISE_STORE_PORT") or told.get("REPRISE_STORE_PORT")
        told |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"} if port else {}
    return told
