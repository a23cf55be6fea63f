"""The objects that a dataset needs: whole packs, ranges of packs, and large files assembled from parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.digest import digest_of_bytes, digest_of_open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.manifest_lines import Entry, Listing, Pack

_WHOLE_SHARE: Final = 2
"""A pack is fetched whole if at least one in so many bytes is needed: this takes one request, and other versions can use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An object of the cache."""

    name: str
    """The hexadecimal digits of its digest; for ranges of a pack, also a digest of the ranges."""
    size: int
    """Bytes of the object in the cache, including holes."""
    bytes: int
    """Bytes to fetch."""

    def is_right(self, file: BinaryIO) -> bool:
        """Return whether an open object of the cache has the right digest. Raises `OSError`."""
        return digest_of_open(file) == f"sha256:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePack(Need):
    """A whole pack."""

    pack: Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class SparsePack(Need):
    """The needed ranges of a pack, at their offsets, if less than half of the pack is needed."""

    pack: Pack
    entries: tuple[Entry, ...]
    """Files in the pack, by offset; each content once."""

    def is_right(self, file: BinaryIO) -> bool:
        """Return whether all ranges have the right digests. Raises `OSError`."""
        for entry in self.entries:
            file.seek(entry.segments[0].offset)
            if digest_of_bytes(file.read(entry.size)) != entry.sha256:
                return False
        return True

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
class LargeFile(Need):
    """A file that is cut into parts."""

    entry: Entry


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


def _sparse_packs(listing: Listing, entries_of: dict[int, dict[int, Entry]]) -> Iterator[SparsePack]:
    """Collect the entries of packs, by the number of the pack and the offset of the entry."""
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
