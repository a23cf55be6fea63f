"""A complete dataset version in the cache, as those see it who read it.

Knows where each file's bytes lie, and verifies them when a process first uses them: it costs 1 s for a gigabyte and a process, spread over
the first epoch, and trusts neither the disk, nor another user, nor an earlier start. Refuses to fetch, and to interpret bytes.

Opening one reads a marker and hashes the manifest; files are views into read-only memory maps, without a copy. It can be pickled, which
opens it again, and forked, after which each process verifies for itself.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError, DigestMismatchError
from trainer.base.suggestions import did_you_mean
from trainer.data.cache.file_tree import tree
from trainer.data.manifest_lines import Paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.base.safe_folder import Root
    from trainer.data.cache.folder import Cache
    from trainer.data.cache.lease import Lease
    from trainer.data.declaration import Dataset
    from trainer.data.manifest_lines import Entry, Listing, Segment

MANY: Final = 2
"""Segments that make a file a large one, with an object of its own."""
MAPS: Final = 512
"""Objects mapped at once: each holds a file handle, of which a process usually has 1024."""
AGAIN: Final = "type the same command again: it verifies all of the dataset and fetches what is wrong"

NOT_OURS: Final = (
    "this user cannot write to {root}: set REPRISE_CACHE to another folder; "
    "its owner mends it: reprise data verify {name}, then reprise data fetch {name}"
)


class CachedDataset:
    """A dataset's files, read-only; nothing is handed on by `read` that was not verified in this process."""

    lease: Lease | None = None
    """Keeps the version from being collected; ends with this value, or with its process. `None`: the cache is read-only to this user."""

    def __init__(self, *, cache: Cache, dataset: Dataset, listing: Listing, sparse: Mapping[str, str]) -> None:
        """Use a version that `Cache.find` knows to be complete."""
        self.dataset = dataset
        self.paths: Sequence[str] = Paths(listing)
        self._cache, self._listing, self._sparse = cache, listing, sparse
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._verified_parts: set[tuple[int, int]] = set()

    def __reduce__(self) -> tuple[object, ...]:
        """Open it again in another process."""
        return _opened, (self._cache, self.dataset)

    def entry(self, path: str) -> Entry:
        """What the manifest says about a file. Raises `DatasetError` where there is none of that path."""
        return self._listing[self._number(path)]

    def view(self, path: str) -> memoryview:
        """The file's bytes, read-only and without a copy, not verified: `require` them before you use them."""
        return self._view(self.entry(path))

    def read(self, path: str) -> memoryview:
        """The file's bytes, verified."""
        number = self._number(path)
        entry = self._listing[number]
        self._require(number, entry, 0, entry.size)
        return self._view(entry)

    def require(self, path: str, start: int = 0, stop: int | None = None) -> None:
        """Verify the bytes from `start` to `stop`, once a process: of a small file all of it, of a large one each part that is touched.

        Raises `DigestMismatchError`, after which the next start verifies all of the dataset and fetches what is wrong.
        """
        number = self._number(path)
        if not self._verified[number]:
            entry = self._listing[number]
            self._require(number, entry, start, entry.size if stop is None else stop)

    def _require(self, number: int, entry: Entry, start: int, stop: int) -> None:
        if self._verified[number]:
            return
        if len(entry.segments) >= MANY and all(segment.is_whole for segment in entry.segments):
            self._require_parts(number, entry, start, stop)
            return
        self._hold(entry, self._view(entry), entry.sha256)
        self._verified[number] = 1

    def folder(self) -> Path:
        """The files as a read-only folder, made and verified when a process first asks for it: see `trainer.data.cache.file_tree`."""
        return self._folder

    def link(self, path: str, *, to: Root, new: str) -> bool:
        """Give a large file, verified, a second name; tell whether that could be done: it needs no space, but leave of its owner."""
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
            return tree(self, self._listing, place)

    def _require_parts(self, number: int, entry: Entry, start: int, stop: int) -> None:
        """Verify the parts of a large file that hold these bytes. That they make up the file was verified when it was put together."""
        view, at = self._view(entry), 0
        for part, segment in enumerate(entry.segments):
            end = at + segment.length
            if at < stop and start < end and (number, part) not in self._verified_parts:
                self._hold(entry, view[at:end], segment.pack.sha256)
                self._verified_parts.add((number, part))
                self._let_go(entry, at, end)
            at = end

    def _let_go(self, entry: Entry, start: int, end: int) -> None:
        """Give hashed pages back: they stay in the system's cache, and come again when they are used."""
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        if hasattr(mmap, "MADV_DONTNEED") and end > first:
            self._mapped(entry, entry.sha256.removeprefix("sha256:"), entry.size).madvise(
                mmap.MADV_DONTNEED, first, end - first
            )

    def _hold(self, entry: Entry, view: memoryview, expected: str) -> None:
        if f"sha256:{hashlib.sha256(view).hexdigest()}" != expected:
            raise self._damaged(entry)

    def _view(self, entry: Entry) -> memoryview:
        match entry.segments:
            case ():
                return memoryview(b"")
            case (segment,):
                pack = memoryview(self._mapped(entry, self._name(segment), segment.pack.size))
                return pack[segment.offset : segment.offset + segment.length]
            case _:
                return memoryview(self._mapped(entry, entry.sha256.removeprefix("sha256:"), entry.size))

    def _name(self, segment: Segment) -> str:
        return self._sparse.get(segment.pack.sha256) or segment.pack.sha256.removeprefix("sha256:")

    def _mapped(self, entry: Entry, name: str, size: int) -> mmap.mmap:
        """An object as memory. Views keep their map alive, so forgetting one that was not used lately closes it when it can be."""
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

    def _damaged(self, entry: Entry) -> DigestMismatchError:
        can_be_mended = self._cache.suspect(self.dataset)
        hint = AGAIN if can_be_mended else NOT_OURS.format(root=self._cache.root, name=self.dataset.name)
        return DigestMismatchError(f"{self.dataset.title} is damaged in the cache: {entry.path}", hint=hint)


def _opened(cache: Cache, dataset: Dataset) -> CachedDataset:
    found = cache.find(dataset)
    if found is None:
        raise DigestMismatchError(f"{dataset.title} is not complete in the cache {cache.root} any more", hint=AGAIN)
    return found
