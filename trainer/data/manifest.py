"""The manifest (`reprise.manifest/1`): a dataset's files, and where their bytes lie in packs. docs/formats/manifest.md is its document.

Knows the format. Refuses to touch a disk or a store.

Reading is strict, since a manifest may come from a stranger: what is not exactly what `manifest_bytes` would write is refused. It is also
lean: lines are checked one by one and not kept, so that a million files cost their bytes and a few numbers each.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.data.file_names import FileNames
from trainer.data.listing import LARGEST, Entry, Listing, Pack, Paths, damaged, unescaped
from trainer.digest import is_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from mmap import mmap

FORMAT: Final = "reprise.manifest/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A dataset's files, sorted by the UTF-8 bytes of their paths, all of them laid: what is about to be written."""

    entries: tuple[Entry, ...]

    @property
    def bytes(self) -> int:
        """What the files weigh together."""
        return sum(entry.size for entry in self.entries)

    @property
    def content(self) -> str:
        """The digest of what the files are, wherever their bytes lie."""
        return content_digest(self.entries)

    @property
    def packs(self) -> tuple[Pack, ...]:
        """The packs, in the order in which the files first need them."""
        return tuple(dict.fromkeys(segment.pack for entry in self.entries for segment in entry.segments))


def content_digest(entries: Iterable[Entry]) -> str:
    r"""The sha256 of one line `["path",size,"sha256:.."]\n` for each file."""
    running = hashlib.sha256()
    for entry in entries:
        running.update(_line([entry.path, entry.size, entry.sha256]))
    return f"sha256:{running.hexdigest()}"


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is stored and named by its digest. Raises `ManifestError` when its files cannot be a dataset's."""
    packs = {pack: number for number, pack in enumerate(manifest.packs)}
    head = {
        "bytes": manifest.bytes,
        "content": manifest.content,
        "files": len(manifest.entries),
        "format": FORMAT,
        "packs": [[pack.sha256, pack.size] for pack in packs],
    }
    raw = _line(head) + b"".join(_line(_row(entry, packs)) for entry in manifest.entries)
    parse_manifest(raw)
    return raw


def parse_manifest(raw: bytes | mmap) -> Listing:
    """Check a manifest, every line of it. Raises `ManifestError`, naming the line and what is wrong with it."""
    listing = _headed(raw)
    names, sums, running = FileNames(), _Sums(listing.packs), hashlib.sha256()
    number, at = 1, listing.first
    for number, row in enumerate(listing.rows(), 2):
        running.update(raw[at : row.end(3) + 1] + b"]\n")
        at = row.end()
        try:
            names.add(unescaped(row[1]))
        except UnicodeDecodeError as fault:
            raise damaged(number, "it is not UTF-8") from fault
        if torn := sums.add(row):
            raise damaged(number, torn)
    names.require(Paths(listing))
    found = (f"sha256:{running.hexdigest()}", number - 1, sums.bytes, sums.packs)
    if found != (listing.head["content"], listing.head["files"], listing.head["bytes"], len(listing.packs)):
        raise damaged(1, "the sums or the packs are not those of the files listed")
    return listing


def _headed(raw: bytes | mmap) -> Listing:
    """A manifest whose first line is right."""
    listing = Listing(raw)
    match listing.head:
        case {"format": str(name)} if name != FORMAT:
            raise damaged(1, f"format {name!r}; expected {FORMAT!r}")
        case {"bytes": int(), "content": str(), "files": int(), "format": str(), "packs": list(), **rest} if not rest:
            pass
        case _:
            raise damaged(1, "expected the keys bytes, content, files, format, packs")
    if not all(_is_pack(row) for row in listing.head["packs"]):
        raise damaged(1, "a pack is not [digest, size]")
    if len(set(listing.packs)) != len(listing.packs) or _line(listing.head) != raw[: listing.first]:
        raise damaged(1, "it is spelled otherwise, or lists a pack twice")
    return listing


def _is_pack(row: object) -> bool:
    match row:
        case [str(sha256), int(size)]:
            return is_digest(sha256) and type(size) is int and 0 < size <= LARGEST
    return False


class _Sums:
    """What the lines add up to."""

    def __init__(self, packs: tuple[Pack, ...]) -> None:
        self._sizes = [pack.size for pack in packs]
        self.bytes, self.packs = 0, 0

    def add(self, row: re.Match[bytes]) -> str | None:
        """Count a line; what is wrong with it, if something is."""
        left = int(row[2])
        self.bytes += left
        for segment in row[4][1:-1].split(b"],[") if row[4] else ():
            if (found := _SEGMENT.fullmatch(segment)) is None:
                return "a segment is not [pack, offset, length]"
            pack, offset, length = int(found[1]), int(found[2]), int(found[3])
            if pack > self.packs or pack >= len(self._sizes):
                return "a segment lies in a pack that is not listed, or not in its order"
            self.packs += pack == self.packs
            if length == 0 or offset + length > self._sizes[pack]:
                return "a segment lies outside its pack"
            left -= length
        return "its segments do not add up to its size" if left else None


def _line(value: object) -> bytes:
    # The canonical form (RFC 8785) of strings, small integers and one sorted object, at a tenth of a general encoder's time.
    return _ENCODER.encode(value).encode() + b"\n"


def _row(entry: Entry, packs: Mapping[Pack, int]) -> list[object]:
    segments = [[packs[segment.pack], segment.offset, segment.length] for segment in entry.segments]
    return [entry.path, entry.size, entry.sha256, segments]


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_NUMBER: Final = rb"(0|[1-9][0-9]{0,15})"
_SEGMENT: Final = re.compile(b",".join([_NUMBER] * 3))
