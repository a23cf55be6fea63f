"""Where things are: runs and the store, as the environment says, and on a host what `.env` adds to it.

Read here, at the edge, and nowhere deeper.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

from trainer.host.dotenv import outside, read_block
from trainer.host.image_claim import BAKED

CHECKOUT: Final = Path(__file__).resolve().parents[2]
TYPED: Final = "REPRISE_TYPED"
"""The command line that a script of ours was called with: what is to be typed again, once something was mended."""
_ADOPTED: Final = ("REPRISE_STORE", "AWS_")


def runs_folder() -> Path:
    """The folder of all runs: REPRISE_RUNS, else `runs/` of the checkout."""
    return Path(os.environ.get("REPRISE_RUNS") or CHECKOUT / "runs").absolute()


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


def host_name() -> str:
    """This host's name: REPRISE_HOST, which compose hands in since a container's own name is made up; else the system's."""
    return os.environ.get("REPRISE_HOST") or platform.node() or "unknown"


def cache_folder() -> Path:
    """The folder of the cache: REPRISE_CACHE, else the user's own."""
    return Path(os.environ.get("REPRISE_CACHE") or Path.home() / ".cache" / "reprise")


def adopt_dotenv(checkout: Path | None = None) -> None:
    """On a host, let the managed block of `.env` say where the store is and with which key, where nothing else does.

    In an image compose has said it already, with the address that counts there. A file that this user cannot read says nothing.
    """
    path = (checkout or CHECKOUT) / ".env"
    if BAKED.exists() or not os.access(path, os.R_OK):
        return
    told = {**read_block(path).values, **outside(path)}
    if told.get("COMPOSE_PROFILES") == "store":  # its port may have been edited since setup wrote its address
        port = os.environ.get("REPRISE_STORE_PORT") or told.get("REPRISE_STORE_PORT")
        told |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"} if port else {}
    for name, value in told.items():
        if name.startswith(_ADOPTED) and value:
            os.environ.setdefault(name, value)
