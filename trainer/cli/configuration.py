"""The configuration of this process from the environment and `.env`: folders, store, host name, users."""

from __future__ import annotations

import os
import platform
import pwd
import re
import shlex
import stat
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import StoreMissingError, UsageError
from trainer.base.safe_folder import Root
from trainer.base.suggestions import short
from trainer.data.cache import CACHE_LIMIT
from trainer.environments.dotenv import all_values, read_block, user_values
from trainer.runs.image_file import IMAGE_FILE
from trainer.stores import open_store
from trainer.stores.address import AWS_ENDPOINT, LOCAL_ENDPOINT, S3Access, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.stores.contract import Store

CHECKOUT: Final = Path(__file__).resolve().parents[2]
LEAST_LIMIT: Final = 8 * 10**6
"""Minimum size in bytes of a cache with a limit: enough for a few samples and some small files."""
_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
TYPED_COMMAND: Final = "REPRISE_TYPED"
"""The variable with the command line of the script that started this process, for hints that repeat the command."""


def runs_folder() -> Path:
    """Return the folder of all runs: REPRISE_RUNS, else `runs/` in the checkout."""
    return Path(os.environ.get("REPRISE_RUNS") or CHECKOUT / "runs").absolute()


def shown_path(path: Path) -> str:
    """Return a path for display: relative to the checkout if the path is inside it."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def typed_folder(path: Path) -> Path:
    """Return the folder of a run that the user named by path; links are resolved outside the runs folder only."""
    return path.absolute() if path.absolute().parent == runs_folder() else path.resolve()


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; false if the operating system rejects the path."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Return whether a path is a file; false if the operating system rejects the path."""
    try:
        return path.is_file()
    except OSError:
        return False


def store_address() -> str | None:
    """Return the address of the configured store: REPRISE_STORE."""
    return os.environ.get("REPRISE_STORE") or None


def configured_store(address: str | None = None, *, purpose: str = "", tries: int | None = None) -> Store:
    """Open the store at an address, or the configured store. Raise `StoreMissingError` if none is configured.

    `purpose` begins the error's message: a clause that says why a store is needed. `tries` is passed to `open_store`.
    """
    address = address or store_address()
    if address is None:
        raise StoreMissingError(
            f"{f'{purpose}, and ' if purpose else ''}no store is configured",
            hint="run scripts/setup, which writes REPRISE_STORE into .env; or set REPRISE_STORE",
        )
    return store_at(address, tries=tries)


def store_of_dataset(*, tries: int | None = None) -> Store:
    """Open the configured store for a dataset that is not in the cache. Raise `StoreMissingError` if none is configured."""
    return configured_store(purpose="the dataset is not in the cache", tries=tries)


def store_at(address: str, *, tries: int | None = None) -> Store:
    """Open the store at an address: with the server of `.env` if `.env` names the address, else as the environment configures it.

    In a container, messages name the local store's endpoint on the host. `tries` is passed to `open_store`. Raise `UsageError` for an
    invalid address, `StoreMissingError` in a container in which the store's folder is not mounted.
    """
    if IMAGE_FILE.exists():
        require_mounted(address, typed=sys.argv[1:])
    return open_store(address, access=_access(address, _dotenv_values(CHECKOUT / ".env")), tries=tries)


def require_mounted(address: str, *, typed: Sequence[str]) -> None:
    """Raise `StoreMissingError` for a store folder that is not mounted in this container; the hint is the typed command for the host."""
    folder = folder_of(address)
    if folder is None or folder.is_dir():
        return
    quoted, arguments = shlex.quote(str(folder)), [*typed]
    trains = not arguments or arguments[0].startswith(("-", "_")) or arguments[0] == "train"
    command = shlex.join(
        ["scripts/train", *arguments[arguments[:1] == ["train"] :]] if trains else ["scripts/reprise", *arguments]
    )
    raise StoreMissingError(
        f"store folder {folder} is not mounted in this container",
        hint=f"type on the host: REPRISE_STORE={quoted} {command}; or mount it for every command: scripts/setup --store {quoted}",
    )


def export_store_variables(dotenv: Path) -> None:
    """Set the variables that make compose use the store in REPRISE_STORE instead of the store in `.env`.

    A folder is mounted; for a server, the address is passed. Raise `UsageError` for an invalid address.
    """
    address = os.environ.get("REPRISE_STORE")
    if not address or address == _dotenv_values(dotenv).get("REPRISE_STORE"):
        return
    folder = folder_of(address)
    os.environ |= {"COMPOSE_PROFILES": "", "REPRISE_STORE_FOLDER": str(folder or "")}
    os.environ |= {"REPRISE_STORE_KEY": "", "REPRISE_STORE_SECRET": ""}
    if folder is not None:
        os.environ["REPRISE_STORE"] = str(folder)
        return
    os.environ["REPRISE_STORE_TOKEN"] = os.environ.get("AWS_SESSION_TOKEN", "")
    os.environ.setdefault("REPRISE_STORE_ENDPOINT", os.environ.get("AWS_ENDPOINT_URL_S3") or AWS_ENDPOINT)


DRY_RUN_HELP: Final = (
    "with --to: print the job, let Slurm test it if sbatch is installed on this machine, and write and submit nothing"
)
STORE_HELP: Final = "store: s3://BUCKET/PREFIX or a path (default: REPRISE_STORE)"
TARGET_HELP: Final = "store to copy to: s3://BUCKET/PREFIX or a path (required)"


def two_stores(source: str | None, target: str | None, *, command: str) -> tuple[Store, Store]:
    """Open the stores to copy from and to; `source` is the configured store if None.

    The store of `.env` is opened with the key of `.env`, another store with the AWS_* variables of the shell. Raise `UsageError` if a store
    is missing, or if both are the same store.
    """
    if not target:
        raise UsageError("--store is missing: the store to push to", hint=f"{command} --store s3://BUCKET?endpoint=URL")
    origin = source or store_address()
    if not origin:
        raise UsageError(
            "no store is configured to push from", hint=f"{command} --from ADDRESS --store {shlex.quote(target)}"
        )
    stores = _open_with_own_key(origin), _open_with_own_key(target)
    if stores[0].label == stores[1].label:
        raise UsageError(
            f"both stores are {stores[0].label}", hint="an address can name another server: s3://BUCKET?endpoint=URL"
        )
    return stores


def _open_with_own_key(address: str) -> Store:
    values = _dotenv_values(CHECKOUT / ".env")
    access = _access(address, values)
    if access.endpoint and not access.key and values.get("AWS_ACCESS_KEY_ID"):
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        key, secret, token = (values.get(name) or None for name in keys)
        access = replace(access, key=key, secret=secret, token=token)
    return open_store(address, access=access) if access.endpoint else store_at(address)


def _access(address: str, dotenv: Mapping[str, str]) -> S3Access:
    """Return endpoint and key of the store that `.env` names; for another store, leave both to boto3."""
    endpoint = dotenv.get("AWS_ENDPOINT_URL_S3")
    if address.rstrip("/") != dotenv.get("REPRISE_STORE") or not endpoint:
        return S3Access(shown=_shown_endpoint())
    names = ("REPRISE_STORE_KEY", "REPRISE_STORE_SECRET", "AWS_DEFAULT_REGION")
    key, secret, region = (dotenv.get(name) or None for name in names)
    return S3Access(endpoint=endpoint, key=key, secret=secret, region=region)


def _shown_endpoint() -> str | None:
    """Return the endpoint for messages, including those about missing credentials."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return (os.environ.get("REPRISE_STORE_ON_HOST") if endpoint == LOCAL_ENDPOINT else None) or endpoint


def host_name() -> str:
    """Return the host's name: REPRISE_HOST, which compose sets in containers, else the system's."""
    return os.environ.get("REPRISE_HOST") or platform.node() or "unknown"


def user_name() -> str:
    """Return the name of this process's user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def users() -> set[int]:
    """Return the user IDs of this user's processes: this process's, and the containers' from `.env`."""
    uid = _dotenv_values(CHECKOUT / ".env").get("REPRISE_UID", "")
    return {os.getuid(), *([int(uid)] if uid.isdecimal() else [])}


def cache_folder() -> Path:
    """Return the folder of the cache: REPRISE_CACHE, else `~/.cache/reprise`."""
    return Path(os.environ.get("REPRISE_CACHE") or Path.home() / ".cache" / "reprise")


def cache_limit() -> int | None:
    """Return the maximum size of the cache in bytes, from REPRISE_CACHE_LIMIT, such as `20GB`; None if no limit is set.

    Raise `UsageError` if the value is not a size, or is less than `LEAST_LIMIT`.
    """
    text = os.environ.get(CACHE_LIMIT, "").strip()
    if not text:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([kMGT]?)B?", text)
    limit = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if limit < LEAST_LIMIT:
        raise UsageError(
            f"{CACHE_LIMIT} is {short(text)!r}; expected a size of at least {LEAST_LIMIT // 10**6} MB",
            hint="REPRISE_CACHE_LIMIT=20GB; units are MB, GB and TB",
        )
    return limit


@contextmanager
def dotenv_adopted() -> Iterator[None]:
    """Return a context in which `adopt_dotenv` applies; at its end, the previous environment is restored."""
    previous = dict(os.environ)
    adopt_dotenv()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(previous)


def adopt_dotenv(checkout: Path | None = None) -> None:
    """On a host, set REPRISE_STORE and the user's AWS_* lines from `.env`, unless the environment has them.

    The server and the key in the managed block belong to the configured store; `store_at` reads them. In a container compose has set all
    variables.
    """
    path = (checkout or CHECKOUT) / ".env"
    values = _dotenv_values(path)
    keys = {name: value for name, value in user_values(path).items() if name.startswith("AWS_")} if values else {}
    for name, value in {**keys, "REPRISE_STORE": values.get("REPRISE_STORE")}.items():
        if value:
            os.environ.setdefault(name, value)


def _dotenv_values(path: Path) -> dict[str, str]:
    """Return the values of `.env`; empty in a container, or if this user cannot read the file."""
    if IMAGE_FILE.exists() or not os.access(path, os.R_OK):
        return {}
    values = all_values(path)
    if values.get("COMPOSE_PROFILES") == "store":  # its port may have been edited since setup wrote its address
        port = os.environ.get("REPRISE_STORE_PORT") or values.get("REPRISE_STORE_PORT")
        values |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"} if port else {}
    return values


def give_to_container_user(folder: Path, *, checkout: Path) -> None:
    """If this user is root, make the containers' user the owner of a run folder and its contents, except links.

    Raise `UnsafePathError` for a file with hard links outside the folder, `NotWritableError` if the owner cannot be changed.
    """
    if os.getuid() != 0:
        return
    values = read_block(checkout / ".env").values
    if "REPRISE_UID" not in values:
        return
    uid, gid = int(values["REPRISE_UID"]), int(values["REPRISE_GID"])
    with disk_faults(folder, done="handed over"), Root.at(folder.absolute().parent) as parent:
        parent.chown(folder.name, uid, gid)
        with parent.below(folder.name) as run:
            kinds = {stat.S_IFREG, stat.S_IFDIR}
            entries = [(path, status) for path, status in run.walk() if stat.S_IFMT(status.st_mode) in kinds]
            names = Counter((status.st_dev, status.st_ino) for _, status in entries)
            for path, status in entries:
                run.chown(path, uid, gid, names=names[status.st_dev, status.st_ino])
