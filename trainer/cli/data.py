"""`reprise data`: datasets, from and to the store.

Knows the words a person types and how results look. The results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.actions.fetch_dataset import fetch_dataset
from trainer.actions.publish_dataset import Published, publish_dataset, publish_declared, read_version
from trainer.actions.verify_dataset import verify_dataset
from trainer.cli.arguments import Arguments
from trainer.cli.places import CHECKOUT, cache_folder, store_address
from trainer.cli.progress import readable, transfer_progress
from trainer.dataset import Dataset, Draft, dataset_names, declaration, declared, load_dataset
from trainer.document import typed
from trainer.errors import DatasetError, MachineError, StoppedError, UsageError
from trainer.host.atomic import write_whole
from trainer.splits import worded
from trainer.store import open_store
from trainer.store.cache import Cache
from trainer.store.folder import SourceFolder

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from trainer.store.contract import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where datasets are declared, stored and cached."""

    root: Path
    store: str
    cache: Cache

    def open(self) -> Store:
        """The store; a missing address is said as such."""
        if not self.store:
            raise UsageError(
                "no store is named",
                hint="give --store ADDRESS, or set REPRISE_STORE (scripts/setup writes it into .env)",
            )
        return open_store(self.store)


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
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> None:
    raise StoppedError("stopped by SIGTERM", hint="the same command goes on where it was")


def _parser() -> Arguments:
    parser = Arguments(
        prog="reprise data", description="Datasets: declared in datasets/, kept in a store, cached on this machine."
    )
    verbs = parser.commands()
    publish = verbs.add_parser(
        "publish", help="make a folder a version of a dataset, and declare it in datasets/NAME.toml"
    )
    publish.add_argument("name", metavar="NAME")
    publish.add_argument("folder", metavar="DIR", type=Path)
    publish.add_argument(
        "--licence", metavar="TEXT", help="the licence; what was declared stays where nothing is given, here and below"
    )
    publish.add_argument("--source", metavar="TEXT", help="where the data is from")
    publish.add_argument(
        "--split",
        metavar="NAME=FIRST:END",
        action="append",
        help="rows FIRST <= row < END are the split NAME; repeat it",
    )
    publish.add_argument(
        "--array", metavar="FIELD=FILE", action="append", help="a sample's FIELD is a row of FILE (.npy); repeat it"
    )
    publish.add_argument("--lines", metavar="FILE", help="a sample is a line of the text FILE")
    publish.set_defaults(verb=_publish)
    fetch = verbs.add_parser("fetch", help="bring a dataset into the cache, verified, and print its folder")
    fetch.add_argument("name", metavar="NAME[@VERSION]")
    fetch.set_defaults(verb=_fetch)
    verbs.add_parser("ls", help="list the declared datasets").set_defaults(verb=_ls)
    show = verbs.add_parser("show", help="print what is declared about a dataset")
    show.add_argument("name", metavar="NAME[@VERSION]")
    show.set_defaults(verb=_show)
    verify = verbs.add_parser(
        "verify", help="hash a cached dataset again; what is damaged is fetched anew by the next fetch"
    )
    verify.add_argument("name", metavar="NAME[@VERSION]")
    verify.set_defaults(verb=_verify)
    samples = verbs.add_parser(
        "publish-samples", help="make the sample datasets from installed packages, and publish them as declared"
    )
    samples.add_argument("names", metavar="NAME", nargs="*")
    samples.set_defaults(verb=_publish_samples)
    for each in verbs.choices.values():
        each.add_argument("--store", metavar="ADDRESS", help="s3://BUCKET/PREFIX or a path; otherwise REPRISE_STORE")
        each.add_argument(
            "--cache", metavar="DIR", help="the cache's folder; otherwise REPRISE_CACHE, else ~/.cache/reprise"
        )
        each.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _publish(words: Namespace, places: Places) -> int:
    before = load_dataset(words.name, root=places.root) if declaration(words.name, root=places.root).is_file() else None
    draft = _draft(words, before)
    if not os.access(places.root / "datasets", os.W_OK):
        raise MachineError(
            f"{places.root / 'datasets'} cannot be written",
            hint="publish from a checkout: scripts/reprise data publish",
        )
    progress = transfer_progress("publishing")
    source = SourceFolder(root=words.folder)
    published = publish_dataset(draft, source=source, store=places.open(), declared=before, progress=progress)
    if published.dataset != before:
        write_whole(declaration(words.name, root=places.root), declared(published.dataset).encode())
    _tell(words, published)
    return 0


def _draft(words: Namespace, before: Dataset | None) -> Draft:
    said: dict[str, Any] = (
        {} if before is None else before.model_dump(include={"licence", "source", "splits", "reader"})
    )
    said |= {key: getattr(words, key) for key in ("licence", "source") if getattr(words, key)}
    if words.split:
        said["splits"] = dict(_split(word) for word in words.split)
    if words.array:
        said["reader"] = {"kind": "arrays", "fields": dict(_pair(word, "FIELD=FILE") for word in words.array)}
    if words.lines:
        said["reader"] = {"kind": "lines", "file": words.lines}
    return typed({"name": words.name, **said}, Draft, where="command line")


def _split(word: str) -> tuple[str, list[str]]:
    name, rows = _pair(word, "NAME=FIRST:END")
    return name, rows.split(":")


def _pair(word: str, form: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise UsageError(f"expected {form}, found {word!r}")
    return name, value


def _fetch(words: Namespace, places: Places) -> int:
    dataset = _dataset(words.name, places)
    warm = places.cache.find(dataset) is not None
    cached = fetch_dataset(dataset, cache=places.cache, open_store=places.open, progress=transfer_progress())
    folder = cached.folder()
    result = {
        "dataset": dataset.title,
        "folder": str(folder),
        "files": dataset.files,
        "bytes": dataset.bytes,
        "was_cached": warm,
    }
    print(json.dumps(result) if words.json else folder)
    return 0


def _ls(words: Namespace, places: Places) -> int:
    datasets = [load_dataset(name, root=places.root) for name in dataset_names(root=places.root)]
    rows = [{**each.model_dump(mode="json"), "cached": places.cache.find(each) is not None} for each in datasets]
    if words.json:
        print(json.dumps(rows))
        return 0
    table = [("NAME", "VERSION", "FILES", "SIZE", "CACHED", "LICENCE")]
    table += [
        (
            row["name"],
            str(row["version"]),
            f"{row['files']:,}",
            readable(row["bytes"]),
            "yes" if row["cached"] else "no",
            row["licence"],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _show(words: Namespace, places: Places) -> int:
    dataset = _dataset(words.name, places)
    folder = places.cache.place(dataset) if places.cache.find(dataset) else None
    if words.json:
        print(json.dumps({**dataset.model_dump(mode="json"), "cached": str(folder) if folder else None}))
        return 0
    reader = dataset.reader.model_dump()
    print(f"{dataset.title}: {dataset.files:,} files, {readable(dataset.bytes)}")
    print(f"  licence   {dataset.licence}\n  source    {dataset.source}")
    for name, split in dataset.splits.items():
        print(f"  {name:<9} {worded(split)}")
    print(f"  reader    {reader.pop('kind')} {json.dumps(reader) if reader else ''}".rstrip())
    print(f"  content   {dataset.content}\n  manifest  {dataset.manifest}\n  cached    {folder or 'no'}")
    return 0


def _verify(words: Namespace, places: Places) -> int:
    dataset = _dataset(words.name, places)
    verified = verify_dataset(dataset, cache=places.cache, progress=transfer_progress("verifying"))
    result = {"dataset": dataset.title, "files": verified, "bytes": dataset.bytes, "verified": True}
    print(
        json.dumps(result)
        if words.json
        else f"{dataset.title}: {verified:,} files, {readable(dataset.bytes)}, all as published"
    )
    return 0


def _publish_samples(words: Namespace, places: Places) -> int:
    try:
        from trainer.actions.make_samples import SAMPLES, make_sample
    except ImportError as fault:
        hint = "docker compose run --rm samples, or install the lock's extra `samples`"
        raise MachineError(
            f"the sample datasets are made from packages that are not installed here: {fault.name}", hint=hint
        ) from fault
    if unknown := next((name for name in words.names if name not in SAMPLES), None):
        raise DatasetError(f"no sample dataset is called {unknown!r}", hint=f"known: {', '.join(SAMPLES)}")
    for name in words.names or SAMPLES:
        dataset = load_dataset(name, root=places.root)
        with tempfile.TemporaryDirectory(prefix="reprise-") as folder:
            make_sample(name, Path(folder))
            _tell(words, publish_declared(dataset, source=SourceFolder(root=Path(folder)), store=places.open()))
    return 0


def _tell(words: Namespace, published: Published) -> None:
    dataset = published.dataset
    if words.json:
        result = {**dataset.model_dump(mode="json"), "is_new": published.is_new, "uploaded": published.uploaded}
        print(json.dumps(result))
        return
    what = "published" if published.is_new else "already published, nothing changed"
    print(
        f"{dataset.title}: {what}; {dataset.files:,} files, {readable(dataset.bytes)}, {readable(published.uploaded)} uploaded"
    )


def _dataset(word: str, places: Places) -> Dataset:
    """The dataset `NAME` as git declares it, or `NAME@VERSION` as the store names it."""
    name, at, version = word.partition("@")
    dataset = load_dataset(name, root=places.root)
    if not at or version == str(dataset.version):
        return dataset
    if not version.isdecimal():
        raise UsageError(
            f"{word!r}: expected NAME or NAME@VERSION with a number", hint=f"{name} is declared as {dataset.title}"
        )
    found = read_version(places.open(), name, int(version))
    if found is None:
        raise DatasetError(f"{word} is not in store {places.store}", hint=f"{name} is declared as {dataset.title}")
    return found
