"""Verifying a cached dataset: every byte is hashed again and held against the manifest that git names.

A dataset found damaged is marked, so that the next start verifies it and fetches what is wrong.
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
"""Files verified by one thread before it looks for more work."""


def verify_dataset(dataset: Dataset, *, cache: Cache, progress: Progress = SILENT) -> int:
    """The number of files verified. Raises `DigestMismatchError`, naming the first damaged one, and `DatasetError` if it is not cached."""
    cached = cache.find(dataset)
    if cached is None and cache.is_suspect(dataset):
        said = f"{dataset.title} is damaged in the cache {cache.root}, as was seen before"
        raise DigestMismatchError(said, hint=f"replace what is wrong: reprise data fetch {dataset.name}")
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
            hint=f"replace what is wrong: reprise data fetch {dataset.name}",
        )
    return len(cached.paths)


def is_right(file: BinaryIO, need: Need) -> bool:
    """Whether an object of the cache, open at its beginning, has the bytes that it is named after. Raises `OSError`."""
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
