"""Verifying a cached dataset: every file is hashed again and held against the manifest it was fetched by.

A dataset found damaged is withdrawn, so that no training uses it and the next fetch replaces what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.actions.parallel import Stop, in_parallel
from trainer.actions.progress import SILENT
from trainer.errors import AlteredError, DatasetError, ManifestError, NotWritableError
from trainer.manifest import parse_manifest
from trainer.store.cache import MANIFEST, is_right

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.actions.progress import Progress
    from trainer.dataset import Dataset
    from trainer.manifest import Entry
    from trainer.store.cache import Cache


def verify_dataset(dataset: Dataset, *, cache: Cache, progress: Progress = SILENT) -> int:
    """The number of files verified. Raises `AlteredError`, naming the first damaged one, and `DatasetError` if it is not cached."""
    folder = cache.find(dataset)
    if folder is None:
        raise DatasetError(
            f"{dataset.title} is not in the cache {cache.root}", hint=f"reprise data fetch {dataset.name}"
        )
    entries = _entries(dataset, folder.parent / MANIFEST)
    progress.begin(dataset.title, dataset.bytes)

    def one(entry: Entry, stop: Stop) -> bool:
        stop.check()
        right = is_right(folder / entry.path, entry)
        progress.advance(entry.size)
        return right

    try:
        right = in_parallel(one, entries)
    finally:
        progress.end()
    damaged = [entry.path for entry, is_whole in zip(entries, right, strict=True) if not is_whole]
    if damaged or (dataset.files and not entries):
        first = repr(damaged[0]) if damaged else "its manifest"
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise AlteredError(
            f"{dataset.title} is damaged in the cache: {first}{more}", hint=_withdrawn(dataset, folder.parent, cache)
        )
    return len(entries)


def _withdrawn(dataset: Dataset, folder: Path, cache: Cache) -> str:
    """Withdraw the dataset; the hint says what is left to do, and by whom: nobody can touch another user's files."""
    try:
        cache.reopen(dataset)
    except NotWritableError:
        return f"only its owner (uid {folder.stat().st_uid}) can withdraw it: have them type reprise data verify {dataset.name}"
    return f"withdrawn from the cache; replace what is wrong: reprise data fetch {dataset.name}"


def _entries(dataset: Dataset, path: Path) -> tuple[Entry, ...]:
    """The entries of the cached manifest; none if it is damaged. By its content: a repacked manifest names the same files."""
    try:
        manifest = parse_manifest(path.read_bytes())
    except (OSError, ManifestError):
        return ()
    return manifest.entries if manifest.content == dataset.content else ()
