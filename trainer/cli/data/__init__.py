"""`reprise data`: publish, fetch and inspect datasets. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError, InterruptedRunError, StoppedError, UsageError
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT, STORE_HELP, TARGET_HELP, cache_folder, configured_store, store_address
from trainer.cli.data.caches import collect, verify_cached
from trainer.cli.data.imports import add_import_options, add_update_options
from trainer.cli.data.publish import add_publish_options, publish_samples, push_versions
from trainer.cli.data.show import diff, ls, show
from trainer.cli.progress import transfer_progress
from trainer.data.cache.folder import Cache
from trainer.data.declaration import Dataset, is_declared, load_dataset
from trainer.data.fetch import fetch_dataset
from trainer.data.versions import read_version

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from trainer.stores.contract import Store


_DIGITS: Final = 9
"""Maximum digits of a version number."""
_DATASET: Final = "dataset: NAME, the declared version, or NAME@VERSION"
_RESUME: Final = "run the same command again: it resumes where it stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataContext:
    """Where datasets are declared, stored and cached."""

    root: Path
    store: str
    cache: Cache
    names_cache: bool = False
    """Whether the user named the cache; a container then uses this cache instead of its own."""

    def open(self) -> Store:
        """Open the store. Raise `StoreMissingError` if none is configured."""
        return configured_store(self.store)

    def dataset(self, word: str, *, source: Store | None = None) -> Dataset:
        """Return the dataset that `word` names: `NAME`, the declared version, or `NAME@VERSION`, a version in `source` or else `store`.

        With `source`, `NAME@VERSION` may be a dataset that this checkout does not declare. Raise `UsageError` for another form of `word`,
        `DatasetError` if the dataset is not declared or the version is not in the store.
        """
        name, separator, version = word.partition("@")
        declared = (
            load_dataset(name, root=self.root)
            if source is None or not separator or is_declared(name, root=self.root)
            else None
        )
        if declared and (not separator or version == str(declared.version)):
            return declared
        hint = f"{name} is declared as {declared.title}" if declared else "for example digits@1"
        if not (version.isascii() and version.isdecimal() and len(version) <= _DIGITS):
            raise UsageError(f"{word!r}: expected NAME, or NAME@VERSION with a number as VERSION", hint=hint)
        store = source or self.open()
        stored = read_version(store, name, int(version))
        if stored is None:
            if source is not None:
                hint = f"reprise data show {name} lists the versions; --from ADDRESS selects another store"
            raise DatasetError(f"{word} is not in store {store.label}", hint=hint)
        return stored


def main(argv: list[str]) -> int:
    """Run one `reprise data` command."""
    args = _parser().parse_args(argv)
    context = DataContext(
        root=CHECKOUT,
        store=args.store or store_address() or "",
        cache=Cache(root=Path(args.cache) if args.cache else cache_folder()),
        names_cache=bool(args.cache),
    )
    with _stoppable():
        result: int = args.verb(args, context)
    return result


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a transfer as Ctrl-C does: threads stop at their next block, and temporary files are removed.

    Raise `StoppedError` after SIGTERM, `InterruptedRunError` after Ctrl-C.
    """
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise InterruptedRunError("stopped by Ctrl-C", hint=_RESUME) from stopped
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stop(*_: object) -> None:
    raise StoppedError("stopped by SIGTERM", hint=_RESUME)


def _parser() -> Arguments:
    parser = Arguments(
        prog="reprise data",
        description="Manage datasets: declared in datasets/, kept in a store, cached on this machine.",
    )
    parser.set_defaults(store=None, cache=None)
    verbs = parser.commands()
    add_publish_options(
        verbs.add_parser(
            "publish",
            help="publish a folder, table or weights file as a new version of a dataset, and declare it",
            description="Publish a folder, table or weights file as a new version of a dataset, and declare it in datasets/NAME.toml. "
            "Options that describe the data default to what datasets/NAME.toml declares.",
        )
    )
    add_import_options(
        verbs.add_parser(
            "import",
            help="download files from another server, and publish them as a new version with their origin",
            description="Download files from another server, verify them, and publish them as a new version of a dataset. The declaration "
            "records the source, its revision and the checksums that the server listed. A zip or tar archive is unpacked; a single "
            "table or weights file is published as with `publish`, whose options apply. torchvision:NAME is MNIST, FashionMNIST, KMNIST, "
            "CIFAR10 or CIFAR100: its files are verified by known digests, and become arrays with the splits of their authors.",
        )
    )
    add_update_options(
        verbs.add_parser(
            "update", help="check an imported dataset's source for changes; --apply imports a changed source again"
        )
    )
    fetch_parser = verbs.add_parser("fetch", help="download a dataset into the cache, verify it, and print its path")
    fetch_parser.add_argument("name", metavar="NAME[@VERSION]", help=_DATASET)
    fetch_parser.add_argument(
        "--folder",
        action="store_true",
        help="also create a folder with the dataset's files, and print the folder's path",
    )
    fetch_parser.set_defaults(verb=_fetch)
    verbs.add_parser("ls", help="list the declared datasets, and whether the cache has them").set_defaults(verb=ls)
    show_parser = verbs.add_parser(
        "show",
        help="show a dataset's declaration, cached copies, versions and values, and hints at duplicates and leaks",
    )
    show_parser.add_argument("name", metavar="NAME[@VERSION]", help=_DATASET)
    show_parser.add_argument(
        "--samples",
        metavar="FILE",
        help="draw samples of each split to a .png file (-: PNG on stdout), or write a .html page with samples, values and hints, "
        "instead of printing the declaration",
    )
    show_parser.add_argument(
        "--values",
        action="store_true",
        help="read the values even if the dataset is large or must be fetched",
    )
    show_parser.set_defaults(verb=show)
    diff_parser = verbs.add_parser(
        "diff", help="list the files, samples, categories and ranges that differ between two versions"
    )
    diff_parser.add_argument("before", metavar="BEFORE", help="dataset: NAME, the declared version, or NAME@VERSION")
    diff_parser.add_argument("after", metavar="AFTER", help="dataset to compare with BEFORE, in the same form")
    diff_parser.add_argument("--stat", action="store_true", help="print only the totals of the files, not each file")
    diff_parser.add_argument(
        "--values",
        action="store_true",
        help="compare the values even if a version is large or must be fetched",
    )
    diff_parser.add_argument(
        "--key",
        metavar="COLUMN",
        help="the column that identifies a row in both versions; implies --values (default: the first column that "
        "neither version reads and whose values are unique, if any)",
    )
    diff_parser.set_defaults(verb=diff)
    verify_parser = verbs.add_parser(
        "verify", help="verify the digests of a dataset's files in the cache; the next fetch replaces damaged files"
    )
    verify_parser.add_argument("name", metavar="NAME[@VERSION]", help=_DATASET)
    verify_parser.set_defaults(verb=verify_cached)
    push_parser = verbs.add_parser("push", help="copy versions unchanged from one store (--from) to another (--store)")
    push_parser.add_argument(
        "name",
        metavar="NAME[@VERSION]",
        nargs="+",
        help="dataset in datasets/, or any version in the store to copy from",
    )
    push_parser.add_argument(
        "--from", dest="source", metavar="ADDRESS", help="store to copy from (default: REPRISE_STORE)"
    )
    push_parser.set_defaults(verb=push_versions)
    gc_parser = verbs.add_parser(
        "gc", help="list cached data that no declared dataset and no run needs; --apply removes the data"
    )
    gc_parser.add_argument(
        "--apply", action="store_true", help="remove the data; without this option, nothing is removed"
    )
    gc_parser.set_defaults(verb=collect)
    samples_parser = verbs.add_parser(
        "publish-samples", help="create the sample datasets from installed packages, and publish them as declared"
    )
    samples_parser.add_argument("names", metavar="NAME", nargs="*", help="sample dataset (default: all)")
    samples_parser.set_defaults(verb=publish_samples)
    for name, each in verbs.choices.items():
        if name not in {"ls", "gc"}:
            each.add_argument("--store", metavar="ADDRESS", help=TARGET_HELP if each is push_parser else STORE_HELP)
        if name in {"fetch", "ls", "show", "diff", "verify", "gc"}:
            each.add_argument(
                "--cache", metavar="DIR", help="cache folder (default: REPRISE_CACHE, else ~/.cache/reprise)"
            )
        each.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _fetch(args: Namespace, context: DataContext) -> int:
    dataset = context.dataset(args.name)
    was_cached = context.cache.has(dataset)
    cached = fetch_dataset(dataset, cache=context.cache, open_store=context.open, progress=transfer_progress())
    folder = cached.folder() if args.folder else context.cache.place(dataset)
    result = {
        "dataset": dataset.title,
        "folder": str(folder),
        "files": dataset.files,
        "bytes": dataset.bytes,
        "was_cached": was_cached,
    }
    print(json.dumps(result) if args.json else folder)
    return 0
