"""`reprise _fetch`: datasets for a run that will have no network; started by `reprise reproduce`, in our own image.

Knows datasets as documents on its command line. Refuses to look at any checkout: what is fetched is what the recorded source declares.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, DocumentError, StoreMissingError, UnsafePathError
from trainer.cli.arguments import Arguments
from trainer.cli.places import cache_folder, store_at
from trainer.cli.progress import transfer_progress
from trainer.data.cache.folder import MANIFEST, Cache
from trainer.data.cache.objects import own
from trainer.data.declaration import parse_dataset
from trainer.data.fetch import fetch_dataset
from trainer.data.lend import lend_dataset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.data.declaration import Dataset
    from trainer.stores.contract import Store

_LARGEST = 4 << 30
"""Bytes of a manifest, whose digest is known: 30 million files."""


def main(argv: list[str]) -> int:
    """Lay datasets out as a store in a folder; with `--look`, only say by the exit code whether all are in the cache."""
    parser = Arguments("reprise _fetch", "Datasets for a run that will have no network.")
    parser.add_argument("--into", type=Path, help="the folder to lay a store out in")
    parser.add_argument("--look", action="store_true", help="only look whether they are in the cache")
    parser.add_argument("dataset", nargs="*", help="a dataset's document")
    words = parser.parse_args(argv)
    datasets = [parse_dataset(word.encode(), where="the command line") for word in words.dataset]
    if words.look:
        cache = Cache(root=cache_folder())
        return 0 if all(cache.has(dataset) for dataset in datasets) else StoreMissingError.code
    lend(datasets, into=words.into)
    return 0


def lend(datasets: Iterable[Dataset], *, into: Path) -> None:
    """Fetch datasets into the cache, and lend them to a run: a store in the folder `into`."""
    cache = Cache(root=cache_folder())
    for dataset in datasets:
        found = fetch_dataset(dataset, cache=cache, open_store=_store, progress=transfer_progress())
        lend_dataset(found, _manifest(cache, dataset), into=into)


def _manifest(cache: Cache, dataset: Dataset) -> bytes:
    with cache.version(dataset) as place:
        for name in (own(MANIFEST), MANIFEST):
            with suppress(OSError, DocumentError, UnsafePathError):
                if digest_of_bytes(text := place.read(name, most=_LARGEST)) == dataset.manifest:
                    return text
    raise DigestMismatchError(f"the manifest of {dataset.title} is damaged in the cache", hint="reprise data verify")


def _store() -> Store:
    address = os.environ.get("REPRISE_STORE")
    if not address:
        raise StoreMissingError("the dataset is not in the cache, and no store is configured", hint="run scripts/setup")
    return store_at(address)
