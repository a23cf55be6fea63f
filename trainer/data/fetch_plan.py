"""What a dataset needs of its packs: which whole ones, which ranges of others, which files put together from parts.

Knows when a pack is worth having whole. Refuses to know what is there already, and to hold a value for each file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.manifest_lines import Entry, Listing, Pack

WORTH: Final = 2
"""A pack of which at least one byte in so many is needed is taken whole: one request, shared with other versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePack:
    """A pack, whole."""

    pack: Pack

    @property
    def name(self) -> str:
        """Its digest's digits."""
        return self.pack.sha256.removeprefix("sha256:")

    @property
    def size(self) -> int:
        """As an object of the cache."""
        return self.pack.size

    @property
    def bytes(self) -> int:
        """What is fetched."""
        return self.pack.size


@dataclass(frozen=True, kw_only=True)
class SparsePack:
    """A pack of which less than half is needed, as after many versions: only those ranges, at their places."""

    pack: Pack
    entries: tuple[Entry, ...]
    """The files that lie in it, by offset; each content once."""

    @cached_property
    def name(self) -> str:
        """The pack's digits and which ranges these are."""
        ranges = ",".join(f"{entry.segments[0].offset}+{entry.size}" for entry in self.entries)
        return f"{self.pack.sha256.removeprefix('sha256:')}-{hashlib.sha256(ranges.encode()).hexdigest()[:16]}"

    @property
    def size(self) -> int:
        """As an object of the cache, with its holes."""
        return self.pack.size

    @property
    def bytes(self) -> int:
        """What is fetched."""
        return sum(entry.size for entry in self.entries)

    def runs(self) -> Iterator[tuple[Entry, ...]]:
        """Files that lie side by side: one request each."""
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
        """Its own digest's digits."""
        return self.entry.sha256.removeprefix("sha256:")

    @property
    def size(self) -> int:
        """As an object of the cache."""
        return self.entry.size

    @property
    def bytes(self) -> int:
        """What is fetched."""
        return self.entry.size


Need = WholePack | SparsePack | LargeFile


def needs_of(listing: Listing) -> tuple[Need, ...]:
    """Everything that has to be in a cache before the listing's files are."""
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
    sparse = {number for number, some in enumerate(used) if 0 < some * WORTH < listing.packs[number].size}
    return (
        *(LargeFile(entry=entry) for entry in large.values()),
        *(WholePack(pack=listing.packs[number]) for number, some in enumerate(used) if some and number not in sparse),
        *_sparse(listing, sparse),
    )


def _sparse(listing: Listing, wanted: set[int]) -> Iterator[SparsePack]:
    if not wanted:
        return
    found: dict[int, dict[int, Entry]] = {number: {} for number in sorted(wanted)}
    for number, row in enumerate(listing.rows()):
        if row[4] and b"],[" not in row[4] and (pack := int(row[4][1:].split(b",")[0])) in wanted:
            entry = listing[number]
            found[pack].setdefault(entry.segments[0].offset, entry)
    for pack, entries in found.items():
        yield SparsePack(pack=listing.packs[pack], entries=tuple(entries[offset] for offset in sorted(entries)))
