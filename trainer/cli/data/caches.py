"""The caches of this host and of its containers, and the commands `reprise data verify` and `gc`.

A host has two caches: commands on the host use REPRISE_CACHE, training in containers uses Compose's volume.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted
from trainer.cli.containers import run_in_image
from trainer.cli.progress import readable, transfer_progress
from trainer.data.cache.collect import collect_cache
from trainer.data.cache.folder import Cache
from trainer.data.declaration import readable_datasets
from trainer.data.fetch import verify_dataset
from trainer.environments.dotenv import read_block
from trainer.runs.image_file import IMAGE_FILE

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.data import DataContext
    from trainer.data.declaration import Dataset

IN_IMAGE: Final = "docker compose run --rm train"
"""The start of a command that uses the containers' cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableCache:
    """A cache that exists but cannot be read, and the reason."""

    reason: str


def container_cache(checkout: Path) -> Cache | UnreadableCache | None:
    """Return the containers' cache, a volume of Compose; `None` inside a container, without Docker, or if there is no volume yet."""
    dotenv = checkout / ".env"
    if IMAGE_FILE.exists() or not os.access(dotenv, os.R_OK):
        return None
    project = read_block(dotenv).values.get("COMPOSE_PROJECT_NAME")
    return _volume(f"{project}_cache") if project else None


def _volume(name: str) -> Cache | UnreadableCache | None:
    command = ["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        return UnreadableCache(reason="Docker does not respond")
    if result.returncode:
        return None if "no such volume" in result.stderr.lower() else UnreadableCache(reason="Docker reports an error")
    root = Path(result.stdout.strip())
    if os.access(root, os.R_OK | os.X_OK):
        return Cache(root=root)
    return UnreadableCache(reason="this user cannot read it from the host")


def verify_cached(args: Namespace, context: DataContext) -> int:
    """Verify the copy in the host's cache, or else, in a container, the copy in the containers' cache.

    Raise `DatasetError` if neither cache has a copy, `DigestMismatchError` if a file is damaged.
    """
    dataset = context.dataset(args.name)
    containers = None if args.cache else container_cache(context.root)
    may_be_in_containers = isinstance(containers, UnreadableCache) or (
        containers is not None and (containers.has(dataset) or containers.is_suspect(dataset))
    )
    is_on_host = context.cache.has(dataset) or context.cache.is_suspect(dataset)
    if may_be_in_containers and not is_on_host:
        print(f"{dataset.title} is not in {context.cache.root}; verifying the containers' cache", file=sys.stderr)
        if args.store:
            os.environ["REPRISE_STORE"] = args.store  # compose passes it to the container
        return run_in_image(["data", "verify", args.name, *(["--json"] if args.json else [])])
    if not is_on_host and not args.cache and not IMAGE_FILE.exists():
        raise _not_cached(dataset, context)
    verified = verify_dataset(dataset, cache=context.cache, progress=transfer_progress("verifying"))
    result = {"dataset": dataset.title, "files": verified, "bytes": dataset.bytes, "verified": True}
    line = f"{dataset.title}: {counted(verified, 'file')}, {readable(dataset.bytes)}, all as published"
    print(json.dumps(result | {"cache": str(context.cache.root)}) if args.json else line)
    if may_be_in_containers:
        print(f"verified {context.cache.root}; containers use a separate cache; to verify it: {IN_IMAGE} data verify {args.name}",
              file=sys.stderr)  # fmt: skip
    return 0


def _not_cached(dataset: Dataset, context: DataContext) -> DatasetError:
    message, name = f"{dataset.title} is not in the cache {context.cache.root}", dataset.name
    host_hint = f"for commands on this host: reprise data fetch {name}"
    if not (context.root / ".env").exists():
        train = "scripts/train --exp EXPERIMENT sets up this checkout and fetches the datasets of the experiment"
        return DatasetError(message, hint=f"{host_hint}; {train}" if context.store else train)
    hint = f"training fetches it; to fetch it now, for containers: {IN_IMAGE} data fetch {name}; {host_hint}"
    return DatasetError(f"{message}, nor in the containers' cache", hint=hint)


def collect(args: Namespace, context: DataContext) -> int:
    """List cached data that this checkout does not declare and no process on any machine uses; with `--apply`, remove the data."""
    declared, unreadable = readable_datasets(root=context.root)
    for name, reason in unreadable.items():
        print(f"reprise: all versions of dataset {name} are kept: {reason}", file=sys.stderr)
    collected = collect_cache(context.cache, declared, unread=unreadable, now=time(), dry_run=not args.apply)
    if args.json:
        print(json.dumps({**asdict(collected), "applied": args.apply}))
        return 0
    for version in collected.versions:
        print(version)
    action = "removed" if args.apply else "would be removed"
    versions, objects = counted(len(collected.versions), "version"), counted(collected.objects, "object")
    print(f"{versions}, {objects}, {readable(collected.bytes)} {action} from {context.cache.root}")
    if not args.cache and container_cache(context.root) is not None:
        command = f"{IN_IMAGE} data gc{' --apply' if args.apply else ''}"
        print(f"containers use a separate cache: {command}", file=sys.stderr)
    if collected.of_others:
        print(f"kept: unneeded data of other users ({collected.of_others}), who can remove it with the same command")
    if not args.apply and (collected.versions or collected.objects):
        print(
            f"kept: data that {context.root / 'datasets'} declares or that runs use ({collected.leases}); --apply removes the rest"
        )
    return 0
