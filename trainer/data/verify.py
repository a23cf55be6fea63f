"""Verify a cached dataset: hash every byte again, and compare the digests with the manifest.

A damaged dataset is marked, so that the next start verifies it and fetches wrong bytes again.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.parallel import Stop, in_parallel
from trainer.base.progress import SILENT

if TYPE_CHECKING:
    from trainer.base.progress import Progress
    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset

_FILES: Final = 256
"""Files that a thread verifies at once."""


def verify_dataset(dataset: Dataset, *, cache: Cache, progress: Progress = SILENT) -> int:
    """Return the number of verified files. Raises `DigestMismatchError` for damaged files, `DatasetError` if the dataset is not cached."""
    hint = f"replace damaged files: reprise data fetch {dataset.name}"
    cached = cache.find(dataset)
    if cached is None and cache.is_suspect(dataset):
        message = f"{dataset.title} is damaged in the cache {cache.root}: an earlier check found wrong bytes"
        raise DigestMismatchError(message, hint=hint)
    if cached is None:
        raise DatasetError(
            f"{dataset.title} is not in the cache {cache.root}", hint=f"reprise data fetch {dataset.name}"
        )
    progress.begin(dataset.title, dataset.bytes)

    def verify_some(first: int, stop: Stop) -> list[str]:
        damaged = []
        for path in cached.paths[first : first + _FILES]:
            stop.check()
            try:
                cached.require(path)
            except DigestMismatchError:
                damaged.append(path)
            progress.advance(cached.entry(path).size)
        return damaged

    try:
        damaged = [*chain.from_iterable(in_parallel(verify_some, range(0, len(cached.paths), _FILES)))]
    finally:
        progress.end()
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise DigestMismatchError(f"{dataset.title} is damaged in the cache: {damaged[0]!r}{more}", hint=hint)
    return len(cached.paths)
