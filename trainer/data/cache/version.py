"""A complete dataset version in the cache, for readers.

Each process verifies a file's bytes on first use, because neither the disk nor other users are trusted: 1 s for a gigabyte, spread over the
first epoch. Opening a version reads a marker and hashes the manifest; files are views into read-only memory maps. A version can be pickled,
which opens it again, and forked.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.suggestions import did_you_mean
from trainer.data.cache.derived import derived
from trainer.data.cache.file_tree import make_file_tree
from trainer.data.manifest_lines import Paths, release_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.data.cache.budget import Budget
    from trainer.data.cache.folder import Cache
    from trainer.data.cache.locks import Lease
    from trainer.data.declaration import Dataset
    from trainer.data.manifest_lines import ManifestEntry, ManifestFiles

MANY: Final = 2
"""A file with at least this many segments is large, and has its own object."""
MAPS: Final = 512
"""Maximum number of mapped objects: each uses a file descriptor, and a process usually has 1024."""
RETRY: Final = "run the same command again: it verifies the dataset and fetches damaged files again"
_NOT_WRITABLE: Final = (
    "this user cannot write to {root}: set REPRISE_CACHE to another folder, "
    "or ask the owner of {root} to run: reprise data verify {name}, then reprise data fetch {name}"
)


class CachedDataset:
    """A dataset's files, read-only; `read` returns only bytes that this process has verified."""

    is_streamed = False
    lease: Lease | None = None
    """Keeps `data gc` from removing the version; `None` if a lease is not possible."""
    budget: Budget | None = None
    """The cache's limit, which counts the bytes that this process adds."""

    def __init__(self, *, cache: Cache, dataset: Dataset, listing: ManifestFiles, sparse: Mapping[str, str]) -> None:
        """Use a version that `Cache.find` has checked to be complete."""
        self.dataset = dataset
        self.paths: Sequence[str] = Paths(listing)
        self._cache, self._listing, self._sparse = cache, listing, sparse
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._verified_parts: set[tuple[int, int]] = set()

    def __reduce__(self) -> tuple[object, ...]:
        """Open the version again in another process."""
        return _open, (self._cache, self.dataset)

    def entry(self, path: str) -> ManifestEntry:
        """Return the manifest's entry of a file. Raise `DatasetError` for an unknown path."""
        return self._listing[self._number(path)]

    def view(self, path: str) -> memoryview:
        """Return a file's bytes without copying or verifying them; call `require` before using them."""
        return self._view(self.entry(path))

    def read(self, path: str, /, start: int = 0, stop: int | None = None) -> memoryview:
        """Return the bytes from `start` to `stop`, or to the file's end, verified."""
        number = self._number(path)
        entry = self._listing[number]
        self._require(number, entry, start, entry.size if stop is None else stop)
        return self._view(entry)[start:stop]

    def size(self, path: str, /) -> int:
        """Return a file's size in bytes."""
        return self.entry(path).size

    def require(self, path: str, start: int = 0, stop: int | None = None) -> None:
        """Verify the bytes from `start` to `stop`, once in each process: a small file as a whole, a large file in its touched parts.

        Raise `DigestMismatchError` if they are damaged; the next start then verifies the whole dataset and fetches damaged files again.
        """
        number = self._number(path)
        if not self._verified[number]:
            entry = self._listing[number]
            self._require(number, entry, start, entry.size if stop is None else stop)

    def _require(self, number: int, entry: ManifestEntry, start: int, stop: int) -> None:
        if self._verified[number]:
            return
        if len(entry.segments) >= MANY and all(segment.is_whole for segment in entry.segments):
            self._require_parts(number, entry, start, stop)
            return
        self._check(entry, self._view(entry), entry.sha256)
        self._verified[number] = 1

    def folder(self) -> Path:
        """Return the files as a read-only folder, which is created and verified on first use."""
        return self._folder

    def derived(self, key: Mapping[str, Any], make: Callable[[], bytes], /) -> memoryview:
        """Return the bytes that `make` computes from the files, or that an earlier process of this user computed with the same `key`."""
        return derived(self._cache, self.dataset, key, make, budget=self.budget)

    def link(self, path: str, *, to: Root, new: str) -> bool:
        """Create a hard link to a verified large file; return false if the file is small or the system does not allow the link."""
        entry = self.entry(path)
        if len(entry.segments) < MANY:
            return False
        self.require(path)
        try:
            self._cache.objects.link(entry.sha256.removeprefix("sha256:"), entry.size, to=to, new=new)
        except OSError:
            return False
        return True

    @cached_property
    def _folder(self) -> Path:
        with self._cache.version(self.dataset) as place:
            return make_file_tree(self, self._listing, place)

    def _require_parts(self, number: int, entry: ManifestEntry, start: int, stop: int) -> None:
        """Verify the parts of a large file that contain the bytes from `start` to `stop`; assembly verified the whole file."""
        view, at = self._view(entry), 0
        for part, segment in enumerate(entry.segments):
            end = at + segment.length
            if at < stop and start < end and (number, part) not in self._verified_parts:
                self._check(entry, view[at:end], segment.pack.sha256)
                self._verified_parts.add((number, part))
                release_pages(self._mapped(entry, entry.sha256.removeprefix("sha256:"), entry.size), at, end)
            at = end

    def _check(self, entry: ManifestEntry, view: memoryview, expected: str) -> None:
        if f"sha256:{hashlib.sha256(view).hexdigest()}" != expected:
            raise self._damaged(entry)

    def _view(self, entry: ManifestEntry) -> memoryview:
        match entry.segments:
            case ():
                return memoryview(b"")
            case (segment,):
                name = self._sparse.get(segment.pack.sha256) or segment.pack.sha256.removeprefix("sha256:")
                pack = memoryview(self._mapped(entry, name, segment.pack.size))
                return pack[segment.offset : segment.offset + segment.length]
            case _:
                return memoryview(self._mapped(entry, entry.sha256.removeprefix("sha256:"), entry.size))

    def _mapped(self, entry: ManifestEntry, name: str, size: int) -> mmap.mmap:
        """Return the memory map of an object. With more than `MAPS` maps, the least recently used map is dropped.

        A dropped map is closed when its last view is gone.
        """
        if name in self._maps:
            self._maps.move_to_end(name)
            return self._maps[name]
        file = self._cache.objects.open(name, size)
        if file is None:
            raise self._damaged(entry)
        with file:
            self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._maps) > MAPS:
            self._maps.popitem(last=False)
        return self._maps[name]

    def _number(self, path: str) -> int:
        number = self._listing.find(path)
        if number is None:
            hint = did_you_mean(path, self.paths[:1000])
            raise DatasetError(f"{self.dataset.title} has no file {path!r}", hint=hint)
        return number

    @cached_property
    def _verified(self) -> bytearray:
        return bytearray(len(self._listing))

    def _damaged(self, entry: ManifestEntry) -> DigestMismatchError:
        is_writable = self._cache.mark_suspect(self.dataset)
        hint = RETRY if is_writable else _NOT_WRITABLE.format(root=self._cache.root, name=self.dataset.name)
        return DigestMismatchError(f"{self.dataset.title} is damaged in the cache: {entry.path}", hint=hint)


def _open(cache: Cache, dataset: Dataset) -> CachedDataset:
    cached = cache.find(dataset)
    if cached is None:
        raise DigestMismatchError(f"{dataset.title} is no longer complete in the cache {cache.root}", hint=RETRY)
    return cached
