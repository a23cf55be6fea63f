"""`reprise data gc`: what of the cache no declared dataset and no running process needs.

Knows how it is asked for and told. What goes, and what never, is `trainer.data.cache.collect`'s to know.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from time import time
from typing import TYPE_CHECKING

from trainer.cli.data.container_cache import container_cache
from trainer.cli.data.verify import IN_IMAGE
from trainer.cli.progress import readable
from trainer.data.cache.collect import collect_cache
from trainer.data.declaration import readable_datasets

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.arguments import Arguments
    from trainer.cli.data.places import Places


def describe(parser: Arguments) -> None:
    """Say what can be given."""
    parser.add_argument("--apply", action="store_true", help="remove it; without this, only say what would go")
    parser.set_defaults(verb=collect)


def collect(words: Namespace, places: Places) -> int:
    """Remove, or say what would go: all but what this checkout declares and what processes hold, on this machine or another."""
    declared, faults = readable_datasets(root=places.root)
    for name, fault in faults.items():
        print(f"reprise: all versions of dataset {name} are kept: {fault}", file=sys.stderr)
    found = collect_cache(places.cache, declared, unread=faults, now=time(), dry_run=not words.apply)
    if words.json:
        print(json.dumps({**asdict(found), "applied": words.apply}))
        return 0
    theirs = None if words.cache else container_cache(places.root)
    for version in found.versions:
        print(version)
    verb = "removed" if words.apply else "would go"
    count = f"{_many(len(found.versions), 'version')}, {_many(found.objects, 'object')}, {readable(found.bytes)}"
    print(f"{count} {verb} from {places.cache.root}")
    if theirs is not None:
        typed = f"{IN_IMAGE} data gc{' --apply' if words.apply else ''}"
        print(f"containers have a cache of their own: {typed}", file=sys.stderr)
    if found.of_others:
        print(f"{found.of_others} belong to other users: they can type the same command")
    if not words.apply and (found.versions or found.objects):
        print(
            f"kept is what {places.root / 'datasets'} declares and what runs hold ({found.leases}); to remove the rest: --apply"
        )
    return 0


def _many(count: int, name: str) -> str:
    """Count things.

    >>> _many(1, "version"), _many(2, "version"), _many(0, "object")
    ('1 version', '2 versions', '0 objects')
    """
    return f"{count} {name}{'' if count == 1 else 's'}"
