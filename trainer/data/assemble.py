"""Assemble a large file from parts that are downloaded in parallel.

The file is hashed as a whole during the download, so every byte is hashed once. Single parts are hashed only if the digest of the file
is wrong, to find the parts to download again.
"""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_blocks
from trainer.base.parallel import PAUSES_S, Stop, patiently
from trainer.stores.contract import altered, object_key, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from trainer.base.progress import Progress
    from trainer.data.cache.objects import Incoming
    from trainer.data.manifest_lines import Entry, Segment
    from trainer.stores.contract import Store


class Assembly:
    """A large file that is being downloaded."""

    def __init__(self, *, title: str, entry: Entry, store: Store, incoming: Incoming, progress: Progress) -> None:
        self._title, self._entry, self._store, self._incoming, self._progress = title, entry, store, incoming, progress
        self._starts = [sum(each.length for each in entry.segments[:part]) for part in range(len(entry.segments))]
        self._done = [False] * len(entry.segments)
        self._done_lock, self._hash_lock, self._hashed, self._running = Lock(), Lock(), 0, hashlib.sha256()

    def salvage(self, file: BinaryIO) -> None:
        """Copy the parts of `file`, from an interrupted download, whose digests are right."""
        for part, segment in enumerate(self._entry.segments):
            if self._done[part] or not segment.is_whole:
                continue
            file.seek(self._starts[part])
            data = file.read(segment.length)
            if len(data) == segment.length and f"sha256:{hashlib.sha256(data).hexdigest()}" == segment.pack.sha256:
                self._incoming.write(self._starts[part], data)
                self._mark_done(part)

    def missing(self) -> Iterable[int]:
        """Return the numbers of the parts that are not downloaded yet."""
        return [part for part, done in enumerate(self._done) if not done]

    def fetch(self, part: int, stop: Stop) -> None:
        """Download a part, with retries if the connection breaks; settle the file after the last missing part."""
        if self._fetch(part, stop):
            self.settle(stop)

    def settle(self, stop: Stop) -> None:
        """Verify the file and give it its name. Wrong parts are downloaded again, twice at most."""
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

    def _fetch(self, part: int, stop: Stop) -> bool:
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
        # If another thread is hashing, that thread or the last one also hashes this part.
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
        """Mark wrong parts as missing and return them; without digests for parts, these are all parts."""
        wrong = [part for part, segment in enumerate(self._entry.segments) if not self._is_right(part, segment)]
        for part in wrong:
            self._done[part] = False
        self._hashed, self._running = 0, hashlib.sha256()
        return wrong

    def _is_right(self, part: int, segment: Segment) -> bool:
        blocks = self._incoming.read(self._starts[part], segment.length)
        return segment.is_whole and digest_of_blocks(blocks) == segment.pack.sha256


def download(store: Store, segment: Segment, incoming: Incoming, *, at: int, stop: Stop) -> Iterator[memoryview]:
    """Write a range of a pack into an object at the offset `at`, and yield its blocks. Raises `DigestMismatchError`."""
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
