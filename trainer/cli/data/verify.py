"""`reprise data verify NAME`: hash what is cached, in this user's cache; if only the containers' cache can have it, there.

A host has two caches: its own (REPRISE_CACHE), which commands on the host use, and compose's volume, which trainings in containers use.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from trainer.base.errors import DatasetError
from trainer.base.suggestions import counted
from trainer.cli.data.container_cache import Hidden, container_cache
from trainer.cli.in_image import run_in_image
from trainer.cli.progress import readable, transfer_progress
from trainer.data.verify import verify_dataset
from trainer.runs.image_claim import BAKED

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.data.places import Places
    from trainer.data.declaration import Dataset

IN_IMAGE = "docker compose run --rm train"


def verify(words: Namespace, places: Places) -> int:
    """Verify the host's copy; without one, verify the containers' copy, in a container. Raises `DatasetError` if there is none."""
    dataset = places.dataset(words.name)
    theirs = None if words.cache else cached_for_containers(dataset, places)
    here = places.cache.has(dataset) or places.cache.is_suspect(dataset)
    if theirs and not here:
        print(f"{dataset.title} is not in {places.cache.root}; verifying the cache of containers", file=sys.stderr)
        return run_in_image(["data", "verify", words.name, *(["--json"] if words.json else [])])
    if not here and not words.cache and not BAKED.exists():
        raise _in_no_cache(dataset, places)
    verified = verify_dataset(dataset, cache=places.cache, progress=transfer_progress("verifying"))
    result = {"dataset": dataset.title, "files": verified, "bytes": dataset.bytes, "verified": True}
    whole = f"{dataset.title}: {counted(verified, 'file')}, {readable(dataset.bytes)}, all as published"
    print(json.dumps(result | {"cache": str(places.cache.root)}) if words.json else whole)
    if theirs:
        print(f"this was {places.cache.root}; containers have a cache of their own: {IN_IMAGE} data verify {words.name}",
              file=sys.stderr)  # fmt: skip
    return 0


def _in_no_cache(dataset: Dataset, places: Places) -> DatasetError:
    """What to type on a host depends on which cache is meant, and on whether containers can be started."""
    said, name = f"{dataset.title} is not in the cache {places.cache.root}", dataset.name
    here = f"for commands on this host: reprise data fetch {name}"
    if not (places.root / ".env").exists():
        trains = "scripts/train --exp EXPERIMENT sets this checkout up and fetches what it trains on"
        return DatasetError(said, hint=f"{here}; {trains}" if places.store else trains)
    hint = f"a training fetches it; now, for containers: {IN_IMAGE} data fetch {name}; {here}"
    return DatasetError(f"{said}, nor in that of containers", hint=hint)


def cached_for_containers(dataset: Dataset, places: Places) -> bool:
    """Whether the cache that containers use has a dataset, or cannot be looked into from here."""
    theirs = container_cache(places.root)
    return isinstance(theirs, Hidden) or (theirs is not None and (theirs.has(dataset) or theirs.is_suspect(dataset)))
