"""Verify a cached dataset: hash every byte again, and compare the digests with the manifest.

A damaged dataset is marked, so that the next start verifies it and fetches wrong bytes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.digest import digest_of_bytes, digest_of_open
from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.parallel import Stop, in_parallel
from trainer.base.progress import SILENT
from trainer.data.fetch_plan import LargeFile, WholePack

if TYPE_CHECKING:
    from trainer.base.progress import Progress
    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import Dataset
    from trainer.data.fetch_plan import Need

_FILES: Final = 256
"""Files that a thread verifies at once."""


def verify_dataset(dataset: Dataset, *, cache: Cache, progress: Progress = SILENT) -> int:
    """Return the number of verified files. Raises `DigestMismatchError` for damaged files, `DatasetError` if the dataset is not cached."""
    cached = cache.find(dataset)
    if cached is None and cache.is_suspect(dataset):
        message = f"{dataset.title} is damaged in the cache {cache.root}: an earlier check found wrong bytes"
        raise DigestMismatchError(message, hint=f"replace damaged files: reprise data fetch {dataset.name}")
    if cached is None:
        raise DatasetError(
            f"{dataset.title} is not in the cache {cache.root}", hint=f"reprise data fetch {dataset.name}"
        )
    progress.begin(dataset.title, dataset.bytes)

    def some(first: int, stop: Stop) -> list[str]:
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
        found = in_parallel(some, range(0, len(cached.paths), _FILES))
    finally:
        progress.end()
    if damaged := [path for paths in found for path in paths]:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise DigestMismatchError(
            f"{dataset.title} is damaged in the cache: {damaged[0]!r}{more}",
            hint=f"replace damaged files: reprise data fetch {dataset.name}",
        )
    return len(cached.paths)


def is_right(file: BinaryIO, need: Need) -> bool:
    """Return whether an open object of the cache has the right digest. Raises `OSError`."""
    match need:
        case WholePack(pack=pack):
            return digest_of_open(file) == pack.sha256
        case LargeFile(entry=entry):
            return digest_of_open(file) == entry.sha256
    for entry in need.entries:
        file.seek(entry.segments[0].offset)
        if digest_of_bytes(file.read(entry.size)) != entry.sha256:
            return False
    return True
