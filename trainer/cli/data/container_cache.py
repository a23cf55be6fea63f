"""The cache that containers use: compose's volume, seen from the host where this user may look into it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trainer.data.cache.folder import Cache
from trainer.environments.dotenv import read_block
from trainer.runs.image_claim import BAKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A cache that is there and cannot be looked into, and why."""

    why: str


def container_cache(checkout: Path) -> Cache | Hidden | None:
    """The cache in compose's volume; `None` in a container, whose own it is, and where this checkout has no volume yet."""
    dotenv = checkout / ".env"
    if BAKED.exists() or not os.access(dotenv, os.R_OK):
        return None
    project = read_block(dotenv).values.get("COMPOSE_PROJECT_NAME")
    return _volume(f"{project}_cache") if project else None


def _volume(name: str) -> Cache | Hidden | None:
    command = ["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        return Hidden(why="and the engine does not answer")
    place = Path(done.stdout.strip())
    if done.returncode:
        return None if "no such volume" in done.stderr.lower() else Hidden(why="and the engine cannot be asked for it")
    can_look = os.access(place, os.R_OK | os.X_OK)
    return Cache(root=place) if can_look else Hidden(why="which this user cannot look into from the host")
