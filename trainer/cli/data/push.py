"""`reprise data push`: a version of a dataset, copied from one store into another."""

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
    from trainer.cli.data.places import Places
    from trainer.data.declaration import Dataset
    from trainer.stores.contract import Store


def describe(push: Verb) -> None:
    """Declare the options of `push`."""
    push.add_argument("name", metavar="NAME[@VERSION]", nargs="+")
    push.add_argument("--from", dest="source", metavar="ADDRESS", help="the store that has it; otherwise REPRISE_STORE")
    push.set_defaults(verb=push_versions)


def push_versions(words: Namespace, places: Places) -> int:
    """Copy each version that was named."""
    source, target = two_stores(words.source, words.store, command="reprise data push NAME@VERSION")
    done = []
    for word in words.name:
        dataset = _named(word, source, places)
        pushed = push_dataset(dataset, source=source, target=target, progress=transfer_progress("pushing"))
        facts = {"dataset": dataset.title, "manifest": dataset.manifest, "content": dataset.content}
        done.append({**facts, "store": target.address, "is_new": pushed.is_new, "sent": pushed.sent})
        if not words.json:
            what = (
                f"pushed, {readable(pushed.sent)} sent"
                if pushed.is_new or pushed.sent
                else "already there, nothing sent"
            )
            print(f"{dataset.title}: {what}; in {target.label}")
    if words.json:
        print(json.dumps(done))
    return 0


def _named(word: str, source: Store, places: Places) -> Dataset:
    """The version that `NAME` declares, or that the source store calls `NAME@VERSION`."""
    name, at, version = word.partition("@")
    if not at:
        return load_dataset(name, root=places.root)
    if not version.isdecimal():
        raise UsageError(f"{word!r}: expected NAME or NAME@VERSION with a number", hint="such as digits@1")
    if declaration(name, root=places.root).is_file():
        declared = load_dataset(name, root=places.root)
        if declared.version == int(version):
            return declared
    found = read_version(source, name, int(version))
    if found is None:
        raise DatasetError(
            f"{word} is not in {source.label}", hint="`reprise data show NAME` lists the versions; --from ADDRESS"
        )
    return found
