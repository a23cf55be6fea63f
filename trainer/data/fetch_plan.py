"""The objects that a dataset needs: whole packs, ranges of packs, and large files assembled from parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.manifest_lines import Entry, Listing, Pack

_WHOLE_SHARE: Final = 2
"""A pack is fetched whole if at least one in so many bytes is needed: this takes one request, and other versions can use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePack:
    """A whole pack."""

    pack: Pack

    @property
    def name(self) -> str:
        """The hexadecimal digits of the pack's digest."""
        return self.pack.sha256.removeprefix("sha256:")

    @property
    def size(self) -> int:
        """Bytes of the object in the cache."""
        return self.pack.size

    @property
    def bytes(self) -> int:
        """Bytes to fetch."""
        return self.pack.size


@dataclass(frozen=True, kw_only=True)
class SparsePack:
    """The needed ranges of a pack, at their offsets, if less than half of the pack is needed."""

    pack: Pack
    entries: tuple[Entry, ...]
    """Files in the pack, by offset; each content once."""

    @cached_property
    def name(self) -> str:
        """The digits of the pack's digest, and a digest of the ranges."""
        ranges = ",".join(f"{entry.segments[0].offset}+{entry.size}" for entry in self.entries)
        return f"{self.pack.sha256.removeprefix('sha256:')}-{hashlib.sha256(ranges.encode()).hexdigest()[:16]}"

    @property
    def size(self) -> int:
        """Bytes of the object in the cache, including holes."""
        return self.pack.size

    @property
    def bytes(self) -> int:
        """Bytes to fetch."""
        return sum(entry.size for entry in self.entries)

    def runs(self) -> Iterator[tuple[Entry, ...]]:
        """Yield runs of adjacent files; each run takes one request."""
        run: list[Entry] = []
        for entry in self.entries:
            if run and run[-1].segments[0].offset + run[-1].size != entry.segments[0].offset:
                yield tuple(run)
                run = []
            run.append(entry)
        yield tuple(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeFile:
    """A file that is cut into parts."""

    entry: Entry

    @property
    def name(self) -> str:
        """The hexadecimal digits of the file's digest."""
        return self.entry.sha256.removeprefix("sha256:")

    @property
    def size(self) -> int:
        """Bytes of the object in the cache."""
        return self.entry.size

    @property
    def bytes(self) -> int:
        """Bytes to fetch."""
        return self.entry.size


Need = WholePack | SparsePack | LargeFile


def plan_fetch(listing: Listing) -> tuple[Need, ...]:
    """Return the objects that a cache needs for the files of a listing."""
    used = [0] * len(listing.packs)
    large: dict[str, Entry] = {}
    for number, row in enumerate(listing.rows()):
        segments = row[4]
        if b"],[" in segments:
            entry = listing[number]
            large.setdefault(entry.sha256, entry)
        elif segments:
            pack, _, length = segments[1:-1].split(b",")
            used[int(pack)] += int(length)
    sparse = {number for number, some in enumerate(used) if 0 < some * _WHOLE_SHARE < listing.packs[number].size}
    return (
        *(LargeFile(entry=entry) for entry in large.values()),
        *(WholePack(pack=listing.packs[number]) for number, some in enumerate(used) if some and number not in sparse),
        *_sparse(listing, sparse),
    )


def _sparse(listing: Listing, wanted: set[int]) -> Iterator[SparsePack]:
    if not wanted:
        return
    entries_of: dict[int, dict[int, Entry]] = {number: {} for number in sorted(wanted)}
    for number, row in enumerate(listing.rows()):
        if row[4] and b"],[" not in row[4] and (pack := int(row[4][1:].split(b",")[0])) in wanted:
            entry = listing[number]
            entries_of[pack].setdefault(entry.segments[0].offset, entry)
    for pack, entries in entries_of.items():
        yield SparsePack(pack=listing.packs[pack], entries=tuple(entries[offset] for offset in sorted(entries)))
