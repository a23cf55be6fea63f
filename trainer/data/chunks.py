"""Chunks: the smallest pieces of a dataset's files that have a digest. A streamed dataset fetches, verifies and evicts them.

A small file is one chunk. A large file has a chunk for each part, because a part is a whole pack, whose digest the manifest has. If a
part is not a whole pack, only the file has a digest, and is one chunk.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_bytes
from trainer.data.cache.budget import cost
from trainer.data.manifest_lines import unescaped
from trainer.stores.contract import altered, object_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trainer.data.manifest_lines import Listing, Segment
    from trainer.stores.contract import Store

_PART_BITS: Final = 20
_PART: Final = (1 << _PART_BITS) - 1
RUN_BYTES: Final = 8 << 20
"""Bytes of adjacent chunks that one request fetches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a file with its own digest."""

    id: int
    """The number of its file in the manifest, and its number in the file: unique in one version."""
    title: str
    """The path of its file."""
    sha256: str
    size: int
    segments: tuple[Segment, ...]

    @property
    def name(self) -> str:
        """The name of its file in the cache."""
        return self.sha256.removeprefix("sha256:")

    @property
    def cost(self) -> int:
        """The bytes that the chunk takes on the disk."""
        return cost(self.size)


class Chunks:
    """The chunks of a version."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._ends: dict[int, list[int]] = {}
        """For each file of several chunks, one past the last byte of each."""
        for number, row in enumerate(listing.rows()):
            segments = listing[number].segments if b"],[" in row[4] else ()
            if segments and all(each.is_whole for each in segments):
                self._ends[number] = list(accumulate(each.length for each in segments))

    def number(self, path: str) -> int | None:
        """Return the number of a file; `None` if the version has no such file. The first call indexes all paths."""
        return self._numbers.get(path)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {unescaped(row[1]).decode(): number for number, row in enumerate(self._listing.rows())}

    def size(self, number: int) -> int:
        """Return the size of a file."""
        return int(self._listing.row(number)[2])

    def within(self, number: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield id and first byte of each chunk of a file that contains a byte from `start` to `stop`."""
        ends = self._ends.get(number)
        if ends is None:
            if start < stop:
                yield number << _PART_BITS, 0
            return
        part = bisect_right(ends, start)
        while part < len(ends) and (first := ends[part - 1] if part else 0) < stop:
            yield number << _PART_BITS | part, first
            part += 1

    def chunk(self, identifier: int) -> Chunk:
        """Return the chunk with an id: a small file, or a part of a large one."""
        number, part = identifier >> _PART_BITS, identifier & _PART
        entry = self._listing[number]
        if number not in self._ends:
            return Chunk(id=identifier, title=entry.path, sha256=entry.sha256, size=entry.size, segments=entry.segments)
        segment = entry.segments[part]
        return Chunk(
            id=identifier, title=entry.path, sha256=segment.pack.sha256, size=segment.length, segments=(segment,)
        )

    def named(self, names: set[str]) -> Iterator[int]:
        """Yield the ids of the chunks with these names; of equal files, all."""
        for number, row in enumerate(self._listing.rows()):
            if number in self._ends:
                for part, segment in enumerate(self._listing[number].segments):
                    if segment.pack.sha256.removeprefix("sha256:") in names:
                        yield number << _PART_BITS | part
            elif row[3][7:].decode() in names:
                yield number << _PART_BITS


def adjacent_runs(chunks: Iterable[Chunk], *, most: int = RUN_BYTES) -> Iterator[tuple[Chunk, ...]]:
    """Yield the chunks in runs of at most `most` bytes that lie one after the other in a pack; a run takes one request."""
    ordered = sorted(chunks, key=lambda each: (each.segments[0].pack.sha256, each.segments[0].offset))
    run: list[Chunk] = ordered[:1]
    size = run[0].size if run else 0
    for before, each in pairwise(ordered):
        size += each.size
        if size > most or not _follows(before, each):
            yield tuple(run)
            run, size = [], each.size
        run.append(each)
    if run:
        yield tuple(run)


def _follows(before: Chunk, after: Chunk) -> bool:
    if len(before.segments) > 1 or len(after.segments) > 1:
        return False
    first, second = before.segments[0], after.segments[0]
    return first.pack == second.pack and first.offset + first.length == second.offset


def download_run(store: Store, run: Sequence[Chunk], *, title: str) -> list[bytes]:
    """Return the verified bytes of adjacent chunks, of one request if each has one segment. Raises `DigestMismatchError`, `StoreError`."""
    bodies = _bodies(store, run)
    for chunk, body in zip(run, bodies, strict=True):
        if (found := digest_of_bytes(body)) != chunk.sha256:
            raise altered(f"{title}: {chunk.title}", expected=chunk.sha256, found=found, store=store.label)
    return bodies


def _bodies(store: Store, run: Sequence[Chunk]) -> list[bytes]:
    if len(run) == 1:
        return [b"".join(_read(store, each, each.length) for each in run[0].segments)]
    length = sum(each.size for each in run)
    body = _read(store, run[0].segments[0], length)
    ends = list(accumulate(each.size for each in run))
    return [body[end - each.size : end] for each, end in zip(run, ends, strict=True)]


def _read(store: Store, segment: Segment, length: int) -> bytes:
    return b"".join(store.read(object_key(segment.pack.sha256), start=segment.offset, length=length))[:length]
