"""`reprise data gc`: list or remove cached data that no declared dataset and no running process needs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from time import time
from typing import TYPE_CHECKING

from trainer.base.suggestions import counted
from trainer.cli.data.container_cache import IN_IMAGE, container_cache
from trainer.cli.progress import readable
from trainer.data.cache.collect import collect_cache
from trainer.data.declaration import readable_datasets

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.arguments import Arguments
    from trainer.cli.data.context import DataContext


def add_gc_options(parser: Arguments) -> None:
    """Declare the options of `gc`."""
    parser.add_argument("--apply", action="store_true", help="remove the data; without this option, nothing is removed")
    parser.set_defaults(verb=collect)


def collect(args: Namespace, context: DataContext) -> int:
    """Remove, or list, all but what this checkout declares and what processes on any machine hold."""
    declared, faults = readable_datasets(root=context.root)
    for name, fault in faults.items():
        print(f"reprise: all versions of dataset {name} are kept: {fault}", file=sys.stderr)
    collected = collect_cache(context.cache, declared, unread=faults, now=time(), dry_run=not args.apply)
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
        print(f"{collected.of_others} belong to other users, who can run the same command")
    if not args.apply and (collected.versions or collected.objects):
        print(
            f"kept: what {context.root / 'datasets'} declares and what runs hold ({collected.leases}); --apply removes the rest"
        )
    return 0
