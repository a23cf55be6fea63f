"""`reprise data verify NAME`: hash the files of a cached dataset again.

A host has two caches: commands on the host use REPRISE_CACHE, training in containers uses Compose's volume. The containers' cache is
verified if only it has the dataset.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted
from trainer.cli.data.container_cache import IN_IMAGE, UnreadableCache, container_cache
from trainer.cli.in_image import run_in_image
from trainer.cli.progress import readable, transfer_progress
from trainer.data.verify import verify_dataset
from trainer.runs.image_claim import BAKED

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.data.context import DataContext
    from trainer.data.declaration import Dataset


def verify_cached(args: Namespace, context: DataContext) -> int:
    """Verify the host's copy, or else the containers' copy in a container. Raises `DatasetError` if there is no copy."""
    dataset = context.dataset(args.name)
    may_be_in_containers = not args.cache and _may_be_cached_for_containers(dataset, context)
    is_on_host = context.cache.has(dataset) or context.cache.is_suspect(dataset)
    if may_be_in_containers and not is_on_host:
        print(f"{dataset.title} is not in {context.cache.root}; verifying the containers' cache", file=sys.stderr)
        return run_in_image(["data", "verify", args.name, *(["--json"] if args.json else [])])
    if not is_on_host and not args.cache and not BAKED.exists():
        raise _not_cached(dataset, context)
    verified = verify_dataset(dataset, cache=context.cache, progress=transfer_progress("verifying"))
    result = {"dataset": dataset.title, "files": verified, "bytes": dataset.bytes, "verified": True}
    line = f"{dataset.title}: {counted(verified, 'file')}, {readable(dataset.bytes)}, all as published"
    print(json.dumps(result | {"cache": str(context.cache.root)}) if args.json else line)
    if may_be_in_containers:
        print(f"verified {context.cache.root}; containers use a separate cache: {IN_IMAGE} data verify {args.name}",
              file=sys.stderr)  # fmt: skip
    return 0


def _not_cached(dataset: Dataset, context: DataContext) -> DatasetError:
    message, name = f"{dataset.title} is not in the cache {context.cache.root}", dataset.name
    on_host = f"for commands on this host: reprise data fetch {name}"
    if not (context.root / ".env").exists():
        train = "scripts/train --exp EXPERIMENT sets up this checkout and fetches the datasets of the experiment"
        return DatasetError(message, hint=f"{on_host}; {train}" if context.store else train)
    hint = f"training fetches it; to fetch it now, for containers: {IN_IMAGE} data fetch {name}; {on_host}"
    return DatasetError(f"{message}, nor in the containers' cache", hint=hint)


def _may_be_cached_for_containers(dataset: Dataset, context: DataContext) -> bool:
    cache = container_cache(context.root)
    if cache is None:
        return False
    return isinstance(cache, UnreadableCache) or cache.has(dataset) or cache.is_suspect(dataset)
