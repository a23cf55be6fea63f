"""Packing: which new packs a dataset's files need, and where each file then lies.

Knows how files are laid; the same files laid from nothing give the same packs on every machine. Refuses to read a byte.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from trainer.data.listing import Segment
from trainer.data.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trainer.data.listing import Entry, Pack

PACK_BYTES: Final = 32 << 20
"""The most that a pack holds. At 100 MB/s a pack takes 0.3 s, so a request's 10 to 30 ms of waiting cost under a tenth; 4 in flight fit
in 128 MB of a publisher's memory; and 1 % of new files make one new pack, not a hundred small objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A stretch of a source file that goes into a pack."""

    path: str
    start: int
    length: int


def lay(
    entries: Sequence[Entry], known: Mapping[str, tuple[Segment, ...]], *, most: int = PACK_BYTES
) -> list[tuple[Slice, ...]]:
    """Decide which new packs the files need: each pack as the slices that make it up.

    Files whose digest is `known` (an earlier version's, see `segments_by_digest`) and repeated ones need none. In path order, files up to
    `most` bytes share packs; a larger one is cut into parts of that size, each a pack of its own.
    """
    packs: list[tuple[Slice, ...]] = []
    shared: list[Slice] = []
    filled = 0
    for entry in distinct(entry for entry in entries if entry.sha256 not in known):
        parts = [
            Slice(path=entry.path, start=at, length=min(most, entry.size - at)) for at in range(0, entry.size, most)
        ]
        if len(parts) > 1:
            packs += [(part,) for part in parts]
            continue
        if filled + entry.size > most:
            packs.append(tuple(shared))
            shared, filled = [], 0
        shared += parts
        filled += entry.size
    return [*packs, tuple(shared)] if shared else packs


def place(
    entries: Iterable[Entry], known: Mapping[str, tuple[Segment, ...]], laid: Iterable[tuple[Pack, Sequence[Slice]]]
) -> Manifest:
    """The manifest of `entries`, some `known`, the others in the packs that were just `laid`."""
    files = tuple(entries)
    fresh: dict[str, list[Segment]] = {}
    for pack, slices in laid:
        offset = 0
        for part in slices:
            fresh.setdefault(part.path, []).append(Segment(pack=pack, offset=offset, length=part.length))
            offset += part.length
    digests = {entry.path: entry.sha256 for entry in files}
    segments = {digests[path]: tuple(parts) for path, parts in fresh.items()} | dict(known)
    return Manifest(entries=tuple(replace(entry, segments=segments.get(entry.sha256, ())) for entry in files))


def segments_by_digest(entries: Iterable[Entry]) -> dict[str, tuple[Segment, ...]]:
    """Where each content of a version lies, for another version that has it too."""
    return {entry.sha256: entry.segments for entry in entries}


def distinct(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The first file of each content, empty ones left out."""
    seen: set[str] = set()
    for entry in entries:
        if entry.size and entry.sha256 not in seen:
            seen.add(entry.sha256)
            yield entry
