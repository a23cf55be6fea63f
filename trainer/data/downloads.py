"""The objects that a dataset needs (whole packs, ranges of packs, large files), and the assembly of a large file from parts.

A large file is hashed as a whole during its download, so every byte is hashed once. Each part is hashed only if the digest of the file
is wrong, to find the parts to download again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.digest import digest_of_blocks, digest_of_bytes, digest_of_open
from trainer.base.parallel import PAUSES_S, StopFlag, patiently
from trainer.stores.contract import altered, object_key, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from trainer.base.progress import Progress
    from trainer.data.cache.objects import Incoming
    from trainer.data.manifest_lines import ManifestEntry, ManifestFiles, Pack, Segment
    from trainer.stores.contract import Store

_WHOLE_SHARE: Final = 2
"""A pack is fetched as a whole, in one request, if at least 1 / _WHOLE_SHARE of its bytes are needed; other versions can use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An object that the cache needs."""

    name: str
    """The hexadecimal digits of its digest; for ranges of a pack, also a digest of the ranges."""
    size: int
    """Bytes of the object in the cache, including holes."""
    bytes: int
    """Bytes to fetch."""

    def is_right(self, file: BinaryIO) -> bool:
        """Return whether the open object `file` has the right digest. Raise `OSError` if it cannot be read."""
        return digest_of_open(file) == f"sha256:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePack(Need):
    """A whole pack."""

    pack: Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class SparsePack(Need):
    """The needed ranges of a pack, at their offsets, if less than half of the pack is needed."""

    pack: Pack
    entries: tuple[ManifestEntry, ...]
    """Files in the pack, by offset; each content once."""

    def is_right(self, file: BinaryIO) -> bool:
        """Return whether all ranges of the open object `file` have the right digests. Raise `OSError` if it cannot be read."""
        for entry in self.entries:
            file.seek(entry.segments[0].offset)
            if digest_of_bytes(file.read(entry.size)) != entry.sha256:
                return False
        return True

    def runs(self) -> Iterator[tuple[ManifestEntry, ...]]:
        """Yield runs of adjacent files; each run takes one request."""
        run: list[ManifestEntry] = []
        for entry in self.entries:
            if run and run[-1].segments[0].offset + run[-1].size != entry.segments[0].offset:
                yield tuple(run)
                run = []
            run.append(entry)
        yield tuple(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeFile(Need):
    """A file that is cut into parts."""

    entry: ManifestEntry


def plan_fetch(listing: ManifestFiles) -> tuple[Need, ...]:
    """Return the objects that a cache needs for the files of a listing."""
    used = [0] * len(listing.packs)
    large: dict[str, ManifestEntry] = {}
    for number, row in enumerate(listing.rows()):
        segments = row[4]
        if b"],[" in segments:
            entry = listing[number]
            large.setdefault(entry.sha256, entry)
        elif segments:
            pack, _, length = segments[1:-1].split(b",")
            used[int(pack)] += int(length)
    whole = [
        pack for pack, share in zip(listing.packs, used, strict=True) if share and share * _WHOLE_SHARE >= pack.size
    ]
    return (
        *(LargeFile(name=_hex(each.sha256), size=each.size, bytes=each.size, entry=each) for each in large.values()),
        *(WholePack(name=_hex(pack.sha256), size=pack.size, bytes=pack.size, pack=pack) for pack in whole),
        *_sparse_packs(
            listing,
            {number: {} for number, share in enumerate(used) if 0 < share * _WHOLE_SHARE < listing.packs[number].size},
        ),
    )


def _sparse_packs(listing: ManifestFiles, entries_of: dict[int, dict[int, ManifestEntry]]) -> Iterator[SparsePack]:
    """Collect the entries of the packs whose numbers are the keys of `entries_of`, and yield these packs."""
    for number, row in enumerate(listing.rows() if entries_of else ()):
        if row[4] and b"],[" not in row[4] and (used := int(row[4][1:].split(b",")[0])) in entries_of:
            entry = listing[number]
            entries_of[used].setdefault(entry.segments[0].offset, entry)
    for number, by_offset in entries_of.items():
        pack, entries = listing.packs[number], tuple(by_offset[offset] for offset in sorted(by_offset))
        ranges = ",".join(f"{entry.segments[0].offset}+{entry.size}" for entry in entries)
        yield SparsePack(
            name=f"{_hex(pack.sha256)}-{hashlib.sha256(ranges.encode()).hexdigest()[:16]}",
            size=pack.size,
            bytes=sum(entry.size for entry in entries),
            pack=pack,
            entries=entries,
        )


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


class LargeDownload:
    """A large file that is being downloaded."""

    def __init__(
        self, *, title: str, entry: ManifestEntry, store: Store, incoming: Incoming, progress: Progress
    ) -> None:
        self._title, self._entry, self._store, self._incoming, self._progress = title, entry, store, incoming, progress
        self._starts = [sum(each.length for each in entry.segments[:part]) for part in range(len(entry.segments))]
        self._done = [False] * len(entry.segments)
        self._done_lock, self._hash_lock, self._hashed, self._running = Lock(), Lock(), 0, hashlib.sha256()

    def salvage(self, file: BinaryIO) -> None:
        """Copy the parts with the right digests from `file`, the temporary file of an interrupted download."""
        for part, segment in enumerate(self._entry.segments):
            if self._done[part] or not segment.is_whole:
                continue
            file.seek(self._starts[part])
            data = file.read(segment.length)
            if len(data) == segment.length and f"sha256:{hashlib.sha256(data).hexdigest()}" == segment.pack.sha256:
                self._incoming.write(self._starts[part], data)
                self._mark_done(part)

    def pieces(self) -> list[Callable[[StopFlag], None]]:
        """Return a piece of work for each part that is not downloaded yet, or `settle` if all are; the pieces may run in parallel."""
        return [partial(self.fetch, part) for part, done in enumerate(self._done) if not done] or [self.settle]

    def fetch(self, part: int, stop: StopFlag) -> None:
        """Download a part, with retries if the store fails; settle the file after the last missing part."""
        if self._fetch(part, stop):
            self.settle(stop)

    def settle(self, stop: StopFlag) -> None:
        """Verify the file and give it its name. Wrong parts are downloaded again, at most twice.

        Raise `DigestMismatchError` if the file is still wrong.
        """
        for _ in PAUSES_S:
            if self._digest() == self._entry.sha256:
                break
            for part in self._reset_wrong_parts():
                self._progress.advance(-self._entry.segments[part].length)
                self._fetch(part, stop)
        if (digest := self._digest()) != self._entry.sha256:
            raise altered(
                f"{self._title}: {self._entry.path}", expected=self._entry.sha256, found=digest, store=self._store.label
            )
        self._incoming.settle(self._entry.size)

    def _fetch(self, part: int, stop: StopFlag) -> bool:
        """Download a part; return whether it was the last missing part."""

        def stream() -> None:
            segment, at = self._entry.segments[part], self._starts[part]
            for _ in download(self._store, segment, self._incoming, at=at, stop=stop):
                pass
            self._incoming.flush()

        patiently(stream, stop)
        return self._mark_done(part)

    def _mark_done(self, part: int) -> bool:
        self._progress.advance(self._entry.segments[part].length)
        with self._done_lock:
            self._done[part] = True
            is_last = all(self._done)
        # If another thread is hashing, either it or `_digest` also hashes this part.
        if self._hash_lock.acquire(blocking=False):
            try:
                self._hash_done_parts()
            finally:
                self._hash_lock.release()
        return is_last

    def _hash_done_parts(self) -> None:
        """Hash the downloaded parts up to the first missing part."""
        while self._hashed < len(self._done) and self._done[self._hashed]:
            part = self._hashed
            for block in self._incoming.read(self._starts[part], self._entry.segments[part].length):
                self._running.update(block)
            self._hashed += 1

    def _digest(self) -> str:
        with self._hash_lock:
            self._hash_done_parts()
            return f"sha256:{self._running.hexdigest()}"

    def _reset_wrong_parts(self) -> list[int]:
        """Mark wrong parts as missing and return them; a part without its own digest counts as wrong."""
        wrong = [part for part, segment in enumerate(self._entry.segments) if not self._is_right(part, segment)]
        for part in wrong:
            self._done[part] = False
        self._hashed, self._running = 0, hashlib.sha256()
        return wrong

    def _is_right(self, part: int, segment: Segment) -> bool:
        blocks = self._incoming.read(self._starts[part], segment.length)
        return segment.is_whole and digest_of_blocks(blocks) == segment.pack.sha256


def download(store: Store, segment: Segment, incoming: Incoming, *, at: int, stop: StopFlag) -> Iterator[memoryview]:
    """Write a range of a pack into an object at the offset `at`, and yield its blocks.

    Raise `DigestMismatchError` if the store returns too few bytes; the caller verifies the digest.
    """
    end = at + segment.length
    for block in store.read(object_key(segment.pack.sha256), start=segment.offset, length=segment.length):
        stop.check()
        piece = memoryview(block)[: end - at]
        incoming.write(at, piece)
        at += len(piece)
        yield piece
        if at == end:
            return
    raise whole("a pack", store.label)
