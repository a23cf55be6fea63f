"""The cache that containers use: Compose's volume, seen from the host."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.data.cache.folder import Cache
from trainer.environments.dotenv import read_block
from trainer.runs.image_claim import BAKED

IN_IMAGE: Final = "docker compose run --rm train"
"""The start of a command that uses the containers' cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableCache:
    """A cache that exists but cannot be read, and the reason."""

    reason: str


def container_cache(checkout: Path) -> Cache | UnreadableCache | None:
    """Return the cache in Compose's volume; `None` inside a container, or if this checkout has no volume yet."""
    dotenv = checkout / ".env"
    if BAKED.exists() or not os.access(dotenv, os.R_OK):
        return None
    project = read_block(dotenv).values.get("COMPOSE_PROJECT_NAME")
    return _volume(f"{project}_cache") if project else None


def _volume(name: str) -> Cache | UnreadableCache | None:
    command = ["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        return UnreadableCache(reason="Docker does not answer")
    if done.returncode:
        return None if "no such volume" in done.stderr.lower() else UnreadableCache(reason="Docker reports an error")
    root = Path(done.stdout.strip())
    if os.access(root, os.R_OK | os.X_OK):
        return Cache(root=root)
    return UnreadableCache(reason="this user cannot read it from the host")
