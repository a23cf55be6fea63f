"""Open a dataset in a cache with a limit: complete if it fits, else streamed, with chunks fetched while they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DiskFullError
from trainer.base.progress import SILENT
from trainer.base.safe_folder import Root
from trainer.data.cache.streamed import StreamedDataset
from trainer.data.downloads import plan_fetch
from trainer.data.fetch import fetch_dataset, read_manifest

if TYPE_CHECKING:
    from trainer.base.progress import Progress
    from trainer.data.cache.budget import Budget
    from trainer.data.cache.folder import Cache
    from trainer.data.cache.streamed import StreamSource
    from trainer.data.cache.version import CachedDataset
    from trainer.data.manifest_lines import Listing
    from trainer.stores.patience import Patience

LEAST: Final = 1 << 20
"""Bytes for chunks without which nothing can be read ahead."""


def open_dataset(
    source: StreamSource, *, progress: Progress = SILENT, patience: Patience | None = None
) -> CachedDataset | StreamedDataset:
    """Return the dataset with a lease: from the cache if it is complete or fits into the limit after a fetch, else streamed.

    Raises `DiskFullError` if what else the cache holds leaves no room, and what `fetch_dataset` raises.
    """
    cache, dataset, budget = source.cache, source.dataset, source.budget
    if cached := cache.find(dataset):
        return cached
    lease = cache.lease(dataset)
    listing = cache.manifest(dataset)
    if listing is None:
        with disk_faults(cache.root):
            Root.at(cache.root, make=True).close()
        listing = read_manifest(source.open_store(), dataset, folder=cache.root)
        cache.keep_manifest(dataset, listing.raw)
    streamed = StreamedDataset(source, listing, lease, patience=patience)
    missing = _missing(listing, cache)
    if _has_room(streamed, missing):
        try:
            complete = fetch_dataset(dataset, cache=cache, open_store=source.open_store, progress=progress)
        except BaseException:
            budget.release(None, missing)
            raise
        streamed.folder_of_chunks.clear()
        return complete
    _require_room(budget)
    return streamed


def _missing(listing: Listing, cache: Cache) -> int:
    """Return the bytes of the objects that the cache lacks."""
    needs = plan_fetch(listing)
    return sum(need.bytes for need in needs if not cache.objects.has({need.name: need.size}))


def _has_room(streamed: StreamedDataset, missing: int) -> bool:
    """Count the bytes of a fetch, after evicting chunks that no process uses if necessary; return whether the limit allows them."""
    budget = streamed.source.budget
    if missing > budget.usable - budget.count().other:
        return False
    return budget.reserve(None, missing) or (streamed.folder_of_chunks.take_idle() and budget.reserve(None, missing))


def _require_room(budget: Budget) -> None:
    """Raise `DiskFullError` if the limit leaves no room for chunks."""
    other = budget.count().other
    if other + LEAST > budget.usable:
        said = f"the cache {budget.root} holds {other / 1e6:,.1f} MB besides streamed data"
        hint = "reprise data gc --apply removes what no dataset needs; or set REPRISE_CACHE_LIMIT to more"
        raise DiskFullError(f"{said}; its limit is {budget.limit / 1e6:,.1f} MB", hint=hint)
