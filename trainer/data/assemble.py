"""Putting a large file together from its parts, several at once, and hashing it whole while they come.

Knows how far the file is. Refuses to believe what an interrupted fetch or an older version left before it was hashed.

The file's own digest decides. Each part is hashed on its own only where the whole is wrong, to learn which part to fetch again: so every
byte is hashed once.
"""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_blocks
from trainer.base.parallel import PAUSES_S, Stop, patiently
from trainer.stores.contract import altered, object_key, whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from trainer.base.progress import Progress
    from trainer.data.cache.objects import Incoming
    from trainer.data.manifest_lines import Entry, Segment
    from trainer.stores.contract import Store


class Assembly:
    """A large file on its way."""

    def __init__(self, *, title: str, entry: Entry, store: Store, incoming: Incoming, progress: Progress) -> None:
        """Begin with no part."""
        self._title, self._entry, self._store, self._incoming, self._progress = title, entry, store, incoming, progress
        self._starts = [sum(each.length for each in entry.segments[:part]) for part in range(len(entry.segments))]
        self._done = [False] * len(entry.segments)
        self._marking, self._hashing, self._hashed, self._running = Lock(), Lock(), 0, hashlib.sha256()

    def salvage(self, file: BinaryIO) -> None:
        """Take over the parts that are right in `file`, at the same places; each is verified, for who knows what wrote it."""
        for part, segment in enumerate(self._entry.segments):
            if self._done[part] or not segment.is_whole:
                continue
            file.seek(self._starts[part])
            data = file.read(segment.length)
            if len(data) == segment.length and f"sha256:{hashlib.sha256(data).hexdigest()}" == segment.pack.sha256:
                self._incoming.write(self._starts[part], data)
                self._arrived(part)

    def missing(self) -> Iterable[int]:
        """The parts that are not there yet."""
        return [part for part, done in enumerate(self._done) if not done]

    def fetch(self, part: int, stop: Stop) -> bool:
        """Fetch a part, again if its connection breaks; tell whether it was the last."""
        patiently(lambda: self._stream(part, stop), stop)
        return self._arrived(part)

    def settle(self, stop: Stop) -> None:
        """Name the file, if its bytes are the right ones. What is wrong is fetched again, twice at most."""
        for _ in PAUSES_S:
            if self._found() == self._entry.sha256:
                break
            for part in self._wrong():
                self._progress.advance(-self._entry.segments[part].length)
                self.fetch(part, stop)
        if (found := self._found()) != self._entry.sha256:
            raise altered(
                f"{self._title}: {self._entry.path}", expected=self._entry.sha256, found=found, store=self._store.label
            )
        self._incoming.settle(self._entry.size)

    def _stream(self, part: int, stop: Stop) -> None:
        segment, at = self._entry.segments[part], self._starts[part]
        end = at + segment.length
        for block in self._store.read(object_key(segment.pack.sha256), start=segment.offset, length=segment.length):
            stop.check()
            self._incoming.write(at, memoryview(block)[: end - at])
            at += len(block)
            if at >= end:
                break
        if at < end:
            raise whole("a part", self._store.label)
        self._incoming.flush()

    def _arrived(self, part: int) -> bool:
        self._progress.advance(self._entry.segments[part].length)
        with self._marking:
            self._done[part] = True
            is_last = all(self._done)
        if self._hashing.acquire(
            blocking=False
        ):  # else the thread that hashes now, or the last one, will hash this too
            try:
                self._catch_up()
            finally:
                self._hashing.release()
        return is_last

    def _catch_up(self) -> None:
        """Hash what has come without a gap."""
        while self._hashed < len(self._done) and self._done[self._hashed]:
            part = self._hashed
            for block in self._incoming.read(self._starts[part], self._entry.segments[part].length):
                self._running.update(block)
            self._hashed += 1

    def _found(self) -> str:
        with self._hashing:
            self._catch_up()
            return f"sha256:{self._running.hexdigest()}"

    def _wrong(self) -> list[int]:
        """The parts whose bytes are not theirs, to be fetched again; all of them where parts have no digest of their own."""
        wrong = [part for part, segment in enumerate(self._entry.segments) if not self._is_right(part, segment)]
        for part in wrong:
            self._done[part] = False
        self._hashed, self._running = 0, hashlib.sha256()
        return wrong

    def _is_right(self, part: int, segment: Segment) -> bool:
        blocks = self._incoming.read(self._starts[part], segment.length)
        return segment.is_whole and digest_of_blocks(blocks) == segment.pack.sha256
