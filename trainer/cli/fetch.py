"""`reprise _fetch`: fetch datasets for a run without network access, in a container that `reprise reproduce` starts.

Datasets are given as documents on the command line, as the recorded source declares them; no checkout is read.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_bytes
from trainer.base.document import parse_json
from trainer.base.errors import DigestMismatchError, DocumentError, StoreMissingError, UnsafePathError
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import cache_folder, cache_limit, store_of_dataset
from trainer.cli.progress import transfer_progress
from trainer.data.cache.folder import MANIFEST, Cache
from trainer.data.cache.objects import own_name
from trainer.data.declaration import Dataset
from trainer.data.fetch import fetch_dataset
from trainer.data.versions import copy_objects, export_dataset
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable


_LARGEST = 4 << 30
"""Maximum size of a manifest in bytes: 30 million files."""


def main(argv: list[str]) -> int:
    """Copy datasets into a store in a folder; with `--look`, only check whether the cache has all of them."""
    parser = Arguments("reprise _fetch", "Fetch datasets for a run without network access.")
    parser.add_argument("--into", type=Path, help="folder of the store to write")
    parser.add_argument(
        "--look",
        action="store_true",
        help="only check whether the cache has the datasets, and report it in the exit code",
    )
    parser.add_argument("dataset", nargs="*", help="dataset as a JSON document")
    args = parser.parse_args(argv)
    datasets = [parse_json(word.encode(), Dataset, where="the command line") for word in args.dataset]
    if args.look:
        cache = Cache(root=cache_folder())
        return 0 if all(cache.has(dataset) for dataset in datasets) else StoreMissingError.code
    export_datasets(datasets, into=args.into)
    return 0


def export_datasets(datasets: Iterable[Dataset], *, into: Path) -> None:
    """Fetch datasets into the cache, and copy them into a store in the folder `into`.

    If the cache has a limit, a dataset that is not cached is copied directly from the configured store.
    """
    cache = Cache(root=cache_folder())
    for dataset in datasets:
        if cache_limit() is not None and not cache.has(dataset):  # the cache may have no room for all files
            target = open_store(str(into))
            copy_objects(dataset, source=store_of_dataset(), target=target, progress=transfer_progress())
            continue
        cached = fetch_dataset(dataset, cache=cache, open_store=store_of_dataset, progress=transfer_progress())
        export_dataset(cached, _manifest(cache, dataset), into=into)


def _manifest(cache: Cache, dataset: Dataset) -> bytes:
    with cache.version(dataset) as folder:
        for name in (own_name(MANIFEST), MANIFEST):
            with suppress(OSError, DocumentError, UnsafePathError):
                if digest_of_bytes(text := folder.read(name, most=_LARGEST)) == dataset.manifest:
                    return text
    raise DigestMismatchError(
        f"the manifest of {dataset.title} is damaged in the cache", hint=f"reprise data verify {dataset.name}"
    )
