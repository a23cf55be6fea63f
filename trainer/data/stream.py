"""Open a dataset in a cache with a limit: complete if it fits, else streamed: its chunks are fetched when they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DiskFullError
from trainer.base.progress import SILENT
from trainer.base.safe_folder import Root
from trainer.data.cache.budget import cost
from trainer.data.cache.chunk_folder import ChunkFolder
from trainer.data.cache.file_tree import FILES
from trainer.data.cache.streamed import StreamedDataset, version_of
from trainer.data.cache.version import MANY
from trainer.data.downloads import plan_fetch
from trainer.data.fetch import fetch_dataset, read_manifest

if TYPE_CHECKING:
    from trainer.base.progress import Progress
    from trainer.data.cache.streamed import StreamSource
    from trainer.data.cache.version import CachedDataset
    from trainer.data.manifest_lines import ManifestFiles
    from trainer.stores.contract import Store
    from trainer.stores.patience import Patience

LEAST: Final = 1 << 20
"""Minimum bytes for chunks; with less, nothing can be read ahead."""


def open_dataset(
    source: StreamSource, *, progress: Progress = SILENT, patience: Patience | None = None
) -> CachedDataset | StreamedDataset:
    """Return the dataset with a lease: complete if it is cached, or if it fits into the limit and can be fetched; else streamed.

    Raise `DiskFullError` if other data in the cache leaves no room, and the errors of `fetch_dataset`.
    """
    if cached := source.cache.find(source.dataset):
        cached.budget = source.budget
        return cached
    lease, (listing, store) = source.cache.lease(source.dataset), _listing(source)
    streamed = StreamedDataset(source, listing, lease, patience=patience, store=store)
    missing = _missing(source, listing)
    if _reserve(source, missing):
        return _fetch(source, missing, progress)
    if source.budget.count().other + LEAST > source.budget.usable:
        raise _no_room(source, LEAST)
    return streamed


def open_folder(source: StreamSource, *, progress: Progress = SILENT) -> CachedDataset:
    """Return the dataset with all files in the cache and in a folder. Streamed chunks are evicted if necessary.

    Raise `DiskFullError` if the limit is too low, the errors of `fetch_dataset`, and those of `CachedDataset.folder`.
    """
    with source.budget.joined():
        return _open_folder(source, progress)


def _open_folder(source: StreamSource, progress: Progress) -> CachedDataset:
    cached = source.cache.find(source.dataset)
    if cached and (source.cache.place(source.dataset) / FILES).is_dir():
        return cached
    listing = None if cached else _listing(source)[0]
    entries = map(cached.entry, cached.paths) if cached else listing or ()
    of_folder = sum(cost(each.size) for each in entries if len(each.segments) < MANY)  # large files are links
    missing = _missing(source, listing) if listing else 0
    if not _reserve(source, of_folder + missing, takes_any=True):
        raise _no_room(source, of_folder + missing)
    complete = cached or _fetch(source, of_folder + missing, progress)
    try:
        complete.folder()
    except BaseException:
        source.budget.release(None, of_folder)
        raise
    return complete


def _listing(source: StreamSource) -> tuple[ManifestFiles, Store | None]:
    """Return the manifest, and the store if it was opened to read the manifest, because opening a bucket takes some tenths of a second."""
    cache, dataset = source.cache, source.dataset
    if (listing := cache.manifest(dataset)) is not None:
        return listing, None
    with disk_faults(cache.root):
        Root.at(cache.root, make=True).close()
    store = source.open_store()
    listing = read_manifest(store, dataset, folder=cache.root)
    cache.keep_manifest(dataset, listing.raw)
    return listing, store


def _missing(source: StreamSource, listing: ManifestFiles) -> int:
    """Return the bytes of the objects that the cache lacks."""
    needs = plan_fetch(listing)
    return sum(need.bytes for need in needs if not source.cache.objects.has({need.name: need.size}))


def _reserve(source: StreamSource, size: int, *, takes_any: bool = False) -> bool:
    """Count `size` bytes, after evicting chunks if necessary; return whether the limit allows them."""
    budget, folder = source.budget, ChunkFolder(source.budget, version_of(source))
    if size > budget.usable - budget.count().other:
        return False
    while not budget.reserve(None, size):
        if not folder.take_idle(size) and not (takes_any and folder.take_any(size)):
            return False
    return True


def _fetch(source: StreamSource, size: int, progress: Progress) -> CachedDataset:
    """Fetch all files, whose `size` bytes are reserved, and evict the streamed chunks of the version."""
    try:
        complete = fetch_dataset(source.dataset, cache=source.cache, open_store=source.open_store, progress=progress)
    except BaseException:
        source.budget.release(None, size)
        raise
    ChunkFolder(source.budget, version_of(source)).clear()
    complete.budget = source.budget
    return complete


def _no_room(source: StreamSource, size: int) -> DiskFullError:
    budget, other = source.budget, source.budget.count().other
    message = f"{source.dataset.title} needs {size / 1e6:,.1f} MB in the cache {budget.root}"
    rest = f"which has {other / 1e6:,.1f} MB of other data; its limit is {budget.limit / 1e6:,.1f} MB"
    hint = "remove unused data: reprise data gc --apply; or increase REPRISE_CACHE_LIMIT"
    return DiskFullError(f"{message}, {rest}", hint=hint)
