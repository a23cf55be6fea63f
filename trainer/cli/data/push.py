"""`reprise data push`: copy versions of datasets from one store to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trainer.cli.places import two_stores
from trainer.cli.progress import readable, transfer_progress
from trainer.data.push import push_dataset

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.data.context import DataContext


def push_versions(args: Namespace, context: DataContext) -> int:
    """Copy each named version."""
    source, target = two_stores(args.source, args.store, command="reprise data push NAME@VERSION")
    results = []
    for word in args.name:
        dataset = context.dataset(word, source=source)
        pushed = push_dataset(dataset, source=source, target=target, progress=transfer_progress("pushing"))
        facts = {"dataset": dataset.title, "manifest": dataset.manifest, "content": dataset.content}
        results.append({**facts, "store": target.address, "is_new": pushed.is_new, "sent": pushed.sent})
        if not args.json:
            is_changed = pushed.is_new or pushed.sent
            state = f"pushed, {readable(pushed.sent)} sent" if is_changed else "already there, nothing sent"
            print(f"{dataset.title}: {state}; in {target.label}")
    if args.json:
        print(json.dumps(results))
    return 0
