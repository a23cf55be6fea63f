"""`reprise data`: datasets, from and to the store.

Knows the words a person types and how results look. The results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import InterruptedRunError, StoppedError
from trainer.cli.arguments import Arguments
from trainer.cli.data.gc import describe as describe_gc
from trainer.cli.data.places import Places
from trainer.cli.data.publish import describe, publish_samples
from trainer.cli.data.publish import publish as publish_folder
from trainer.cli.data.push import describe as describe_push
from trainer.cli.data.show import diff, ls, show
from trainer.cli.data.verify import verify as verify_cached
from trainer.cli.places import CHECKOUT, cache_folder, store_address
from trainer.cli.progress import transfer_progress
from trainer.data.cache.folder import Cache
from trainer.data.fetch import fetch_dataset

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator


_AGAIN: Final = "the same command goes on where it was"


def main(argv: list[str]) -> int:
    """Run one verb."""
    words = _parser().parse_args(argv)
    places = Places(
        root=CHECKOUT,
        store=words.store or store_address() or "",
        cache=Cache(root=Path(words.cache) if words.cache else cache_folder()),
    )
    with _stoppable():
        result: int = words.verb(words, places)
    return result


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a transfer as Ctrl-C does: threads stop at their next block, and temporary files are removed."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise InterruptedRunError("stopped by Ctrl-C", hint=_AGAIN) from stopped
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> None:
    raise StoppedError("stopped by SIGTERM", hint=_AGAIN)


def _parser() -> Arguments:
    parser = Arguments(
        prog="reprise data", description="Datasets: declared in datasets/, kept in a store, cached on this machine."
    )
    verbs = parser.commands()
    publish = verbs.add_parser(
        "publish", help="make a folder a version of a dataset, and declare it in datasets/NAME.toml"
    )
    describe(publish)
    publish.set_defaults(verb=publish_folder)
    fetch = verbs.add_parser("fetch", help="bring a dataset into the cache, verified, and print where it is")
    fetch.add_argument("name", metavar="NAME[@VERSION]")
    fetch.add_argument("--folder", action="store_true", help="lay its files out as a folder too, and print that")
    fetch.set_defaults(verb=_fetch)
    verbs.add_parser("ls", help="list the declared datasets").set_defaults(verb=ls)
    shown = verbs.add_parser(
        "show", help="print what is declared about a dataset, where it is, which versions there are"
    )
    shown.add_argument("name", metavar="NAME[@VERSION]")
    shown.add_argument(
        "--samples", metavar="FILE.png", help="draw the first samples of each split instead; - is stdout"
    )
    shown.set_defaults(verb=show)
    compared = verbs.add_parser("diff", help="list the files that differ between two versions; fetches none of them")
    compared.add_argument("before", metavar="NAME[@VERSION]")
    compared.add_argument("after", metavar="NAME[@VERSION]")
    compared.add_argument("--stat", action="store_true", help="the sums alone")
    compared.set_defaults(verb=diff)
    verify = verbs.add_parser("verify", help="hash a cached dataset again; the next fetch replaces what is damaged")
    verify.add_argument("name", metavar="NAME[@VERSION]")
    verify.set_defaults(verb=verify_cached)
    describe_push(
        verbs.add_parser("push", help="copy versions into another store, as they are: --store ADDRESS, --from ADDRESS")
    )
    describe_gc(
        verbs.add_parser("gc", help="say what of the cache is neither declared nor held by a run; --apply removes it")
    )
    samples = verbs.add_parser(
        "publish-samples", help="make the sample datasets from installed packages, and publish them as declared"
    )
    samples.add_argument("names", metavar="NAME", nargs="*")
    samples.set_defaults(verb=publish_samples)
    for each in verbs.choices.values():
        each.add_argument(
            "--store", metavar="ADDRESS", help="store: s3://BUCKET/PREFIX or a path (default: REPRISE_STORE)"
        )
        each.add_argument(
            "--cache", metavar="DIR", help="the cache's folder; otherwise REPRISE_CACHE, else ~/.cache/reprise"
        )
        each.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _fetch(words: Namespace, places: Places) -> int:
    dataset = places.dataset(words.name)
    warm = places.cache.has(dataset)
    cached = fetch_dataset(dataset, cache=places.cache, open_store=places.open, progress=transfer_progress())
    folder = cached.folder() if words.folder else places.cache.place(dataset)
    result = {
        "dataset": dataset.title,
        "folder": str(folder),
        "files": dataset.files,
        "bytes": dataset.bytes,
        "was_cached": warm,
    }
    print(json.dumps(result) if words.json else folder)
    return 0
