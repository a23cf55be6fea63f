"""`reprise data push`: copy versions of datasets from one store to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trainer.base.errors import DatasetError, UsageError
from trainer.cli.places import two_stores
from trainer.cli.progress import readable, transfer_progress
from trainer.data.declaration import declaration, load_dataset
from trainer.data.publish import read_version
from trainer.data.push import push_dataset

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.arguments import Verb
    from trainer.cli.data.context import DataContext
    from trainer.data.declaration import Dataset
    from trainer.stores.contract import Store


def add_push_options(parser: Verb) -> None:
    """Declare the options of `push`."""
    parser.add_argument("name", metavar="NAME[@VERSION]", nargs="+")
    parser.add_argument(
        "--from", dest="source", metavar="ADDRESS", help="the store to copy from (default REPRISE_STORE)"
    )
    parser.set_defaults(verb=push_versions)


def push_versions(args: Namespace, context: DataContext) -> int:
    """Copy each named version."""
    source, target = two_stores(args.source, args.store, command="reprise data push NAME@VERSION")
    results = []
    for word in args.name:
        dataset = _find_version(word, source, context)
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


def _find_version(word: str, source: Store, context: DataContext) -> Dataset:
    """Return the version that the checkout declares as `NAME`, or the source store's `NAME@VERSION`."""
    name, at, version = word.partition("@")
    if not at:
        return load_dataset(name, root=context.root)
    if not version.isdecimal():
        raise UsageError(f"{word!r}: expected NAME or NAME@VERSION with a number", hint="for example digits@1")
    if declaration(name, root=context.root).is_file():
        declared = load_dataset(name, root=context.root)
        if declared.version == int(version):
            return declared
    stored = read_version(source, name, int(version))
    if stored is None:
        hint = f"reprise data show {name} lists the versions; --from ADDRESS selects another store"
        raise DatasetError(f"{word} is not in {source.label}", hint=hint)
    return stored
