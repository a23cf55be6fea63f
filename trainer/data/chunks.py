"""Chunks: the smallest pieces of a dataset's files that have a digest. A streamed dataset fetches, verifies and evicts them.

A small file is one chunk. A large file has a chunk for each part, because a part is a whole pack, and the manifest has the digest of each
pack. If a part is not a whole pack, only the file has a digest, and the file is one chunk.

A group of chunks is one file in the cache. It has one chunk, unless the order of reads is known to use neighbors together: then adjacent
small files of a pack are a group. Groups depend only on the manifest and on the chunks at which groups begin, so that all processes of a
run find the same groups.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, islice, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.digest import digest_of_blocks
from trainer.data.cache.budget import cost
from trainer.data.manifest_lines import unescaped
from trainer.stores.contract import altered, object_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trainer.data.manifest_lines import ManifestFiles, Segment
    from trainer.stores.contract import Store

Ids = np.ndarray[Any, np.dtype[np.int64]]
_PART_BITS: Final = 20
_PART: Final = (1 << _PART_BITS) - 1
RUN_BYTES: Final = 8 << 20
"""Maximum bytes of adjacent chunks that one request fetches."""
_GROUPED: Final = re.compile(r"[0-9a-f]{64}-[0-9]+-([0-9]+)")
_RECENT: Final = 256
"""Maximum number of groups whose chunks stay in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a file with its own digest."""

    id: int
    """The number of its file in the manifest, combined with its number in the file: unique in a version."""
    title: str
    """The path of its file."""
    sha256: str
    size: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFile:
    """A file in the cache: a group of chunks, without the chunks."""

    id: int
    """The ID of its first chunk; negative for a file that this process only evicts."""
    name: str
    """The digest of its only chunk; or the digest of the pack, the first byte and the size."""
    size: int

    @property
    def cost(self) -> int:
        """The bytes that the file takes on disk."""
        return cost(self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkGroup(ChunkFile):
    """One chunk, or several chunks that are adjacent in a pack; a group is one file in the cache."""

    chunks: tuple[Chunk, ...]

    @classmethod
    def of(cls, *chunks: Chunk) -> ChunkGroup:
        """Return the group of `chunks`."""
        size = sum(each.size for each in chunks)
        return cls(id=chunks[0].id, name=_name_of(chunks, size), size=size, chunks=chunks)

    @property
    def file(self) -> ChunkFile:
        """The group without its chunks, which takes less memory."""
        return ChunkFile(id=self.id, name=self.name, size=self.size)

    def find(self, identifier: int) -> tuple[Chunk, int]:
        """Return a chunk of the group, and its first byte in the group."""
        if len(self.chunks) == 1:
            return self.chunks[0], 0
        chunk = self.chunks[bisect_left(self.chunks, identifier, key=attrgetter("id"))]
        return chunk, chunk.segments[0].offset - self.chunks[0].segments[0].offset


def _name_of(chunks: Sequence[Chunk], size: int) -> str:
    if len(chunks) == 1:
        return chunks[0].sha256.removeprefix("sha256:")
    first = chunks[0].segments[0]
    return _name(first.pack.sha256, first.offset, size)


def _name(pack: str, first: int, size: int) -> str:
    return f"{pack.removeprefix('sha256:')}-{first}-{size}"


class Chunks:
    """The chunks of a version, and their groups."""

    def __init__(self, listing: ManifestFiles) -> None:
        self._listing = listing
        self._sizes = array("q")
        """The size of each file."""
        self._ends: dict[int, list[int]] = {}
        """For each file with several chunks, the offset after the last byte of each chunk."""
        self._firsts: Ids | None = None
        """For each file, the number of the first file of its group; `None` if each chunk is a group."""
        self._named: dict[str, int] = {}
        """The number of the first file of each group with several chunks, by the group's name."""
        for number, row in enumerate(listing.rows()):
            self._sizes.append(int(row[2]))
            segments = listing[number].segments if b"],[" in row[4] else ()
            if segments and all(each.is_whole for each in segments):
                self._ends[number] = list(accumulate(each.length for each in segments))
        self.group = lru_cache(_RECENT)(self._group)
        """Returns the group with an ID."""

    def number(self, path: str) -> int | None:
        """Return the number of a file; `None` if the version has no such file. The first call indexes all paths."""
        return self._numbers.get(path)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {unescaped(row[1]).decode(): number for number, row in enumerate(self._listing.rows())}

    def size(self, number: int) -> int:
        """Return the size of a file."""
        return self._sizes[number]

    def within(self, number: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the ID and the offset of each chunk of a file that contains a byte from `start` to `stop`."""
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
        """Return the chunk with the given ID: a small file, or a part of a large file."""
        number, part = identifier >> _PART_BITS, identifier & _PART
        entry = self._listing[number]
        if number not in self._ends:
            return Chunk(id=identifier, title=entry.path, sha256=entry.sha256, size=entry.size, segments=entry.segments)
        segment = entry.segments[part]
        return Chunk(
            id=identifier, title=entry.path, sha256=segment.pack.sha256, size=segment.length, segments=(segment,)
        )

    def regroup(self, starts: Iterable[int], *, most: int) -> None:
        """Group adjacent small files, up to `most` bytes; a group also begins at each chunk in `starts`.

        Without `starts`, each chunk is a group.
        """
        begins = {each >> _PART_BITS for each in starts}
        self.group.cache_clear()
        self._named = {}
        self._firsts = np.array(self._find_groups(begins, most), dtype=np.int64) if begins else None

    def _find_groups(self, begins: set[int], most: int) -> array[int]:
        """Return the first file of each file's group, and record the names of groups of several files in `_named`."""
        firsts, packs = array("q"), self._listing.packs
        first, pack, begin, end, is_open = -1, -1, 0, 0, False
        for number, row in enumerate(self._listing.rows()):
            is_open = is_open and number not in begins
            firsts.append(number)
            if row[2] == b"0":
                continue
            if b"],[" in row[4]:
                is_open = False
                continue
            own, offset, size = map(int, row[4][1:-1].split(b","))
            if is_open and own == pack and offset == end and end + size - begin <= most:
                self._named.pop(_name(packs[pack].sha256, begin, end - begin), None)
                end += size
                self._named[_name(packs[pack].sha256, begin, end - begin)] = first
                firsts[number] = first
            else:
                first, pack, begin, end, is_open = number, own, offset, offset + size, True
        return firsts

    @property
    def has_groups(self) -> bool:
        """Whether adjacent small files are grouped."""
        return self._firsts is not None

    def group_ids(self, identifiers: Ids) -> Ids:
        """Return the ID of the group of each chunk."""
        if self._firsts is None:
            return identifiers
        firsts: Ids = self._firsts[identifiers >> _PART_BITS]
        return firsts << _PART_BITS | identifiers & _PART

    def group_of(self, identifier: int) -> ChunkGroup:
        """Return the group of a chunk."""
        if self._firsts is None:
            return self.group(identifier)
        return self.group(int(self._firsts[identifier >> _PART_BITS]) << _PART_BITS | identifier & _PART)

    def _group(self, identifier: int) -> ChunkGroup:
        return ChunkGroup.of(*map(self.chunk, self._members(identifier)))

    def _members(self, identifier: int) -> Iterator[int]:
        """Yield the IDs of the chunks of a group; empty files between them have no chunks."""
        yield identifier
        number = first = identifier >> _PART_BITS
        while self._firsts is not None and (number := number + 1) < len(self._firsts):
            if self._firsts[number] == first:
                yield number << _PART_BITS
            elif self.size(number):
                return

    def files(self, names: set[str]) -> Iterator[ChunkFile]:
        """Yield the files of the cache with the given names; if several chunks are equal, a file for each of them."""
        grouped = [match for match in map(_GROUPED.fullmatch, names) if match]
        for number, match in enumerate(grouped, 1):
            first = self._named.get(match[0])
            yield ChunkFile(id=-number if first is None else first << _PART_BITS, name=match[0], size=int(match[1]))
        if digests := names - {match[0] for match in grouped}:
            yield from self._single(digests, unused=-len(names) - 1)

    def _single(self, digests: set[str], *, unused: int) -> Iterator[ChunkFile]:
        """Yield the files of single chunks. A file whose chunk now belongs to a larger group has an ID of at most `unused`."""
        for number, row in enumerate(self._listing.rows()):
            if number in self._ends:
                for part, segment in enumerate(self._listing[number].segments):
                    if (name := segment.pack.sha256.removeprefix("sha256:")) in digests:
                        yield ChunkFile(id=number << _PART_BITS | part, name=name, size=segment.length)
            elif (name := row[3][7:].decode()) in digests:
                is_group = self._is_single(number)
                yield ChunkFile(id=number << _PART_BITS if is_group else unused - number, name=name, size=int(row[2]))

    def _is_single(self, number: int) -> bool:
        """Return whether a small file is the only member of its group."""
        if self._firsts is None:
            return True
        return bool(self._firsts[number] == number) and len([*islice(self._members(number << _PART_BITS), 2)]) == 1


def adjacent_runs(groups: Iterable[ChunkGroup], *, most: int = RUN_BYTES) -> Iterator[tuple[ChunkGroup, ...]]:
    """Yield the groups in runs of at most `most` bytes that are adjacent in a pack; a run takes one request.

    A larger group is a run of its own.
    """
    ordered = sorted(groups, key=lambda each: _place(each.chunks[0]))
    run: list[ChunkGroup] = ordered[:1]
    size = run[0].size if run else 0
    for before, each in pairwise(ordered):
        size += each.size
        if size > most or not _follows(before.chunks[-1], each.chunks[0]):
            yield tuple(run)
            run, size = [], each.size
        run.append(each)
    if run:
        yield tuple(run)


def _place(chunk: Chunk) -> tuple[str, int]:
    return chunk.segments[0].pack.sha256, chunk.segments[0].offset


def _follows(before: Chunk, after: Chunk) -> bool:
    if len(before.segments) > 1 or len(after.segments) > 1:
        return False
    first, second = before.segments[0], after.segments[0]
    return first.pack == second.pack and first.offset + first.length == second.offset


def download_run(store: Store, run: Sequence[ChunkGroup], *, title: str) -> list[bytes]:
    """Return the bytes of each of the adjacent groups, in one request if each chunk has one segment.

    Raise `DigestMismatchError` if a chunk has the wrong digest, `StoreError` if the store fails.
    """
    chunks = [chunk for group in run for chunk in group.chunks]
    body = _body(store, chunks)
    for chunk, part in zip(chunks, _parts(body, [each.size for each in chunks]), strict=True):
        if (found := digest_of_blocks([part])) != chunk.sha256:
            raise altered(f"{title}: {chunk.title}", expected=chunk.sha256, found=found, store=store.label)
    return [body] if len(run) == 1 else [bytes(part) for part in _parts(body, [each.size for each in run])]


def _body(store: Store, chunks: Sequence[Chunk]) -> bytes:
    if len(chunks) == 1:
        return b"".join(_read(store, each, each.length) for each in chunks[0].segments)
    return _read(store, chunks[0].segments[0], sum(each.size for each in chunks))


def _parts(body: bytes, sizes: Sequence[int]) -> Iterator[memoryview]:
    return (memoryview(body)[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True))


def _read(store: Store, segment: Segment, length: int) -> bytes:
    return b"".join(store.read(object_key(segment.pack.sha256), start=segment.offset, length=length))[:length]
