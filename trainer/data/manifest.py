"""The manifest (`reprise.manifest/1`): a dataset's files, and where their bytes lie in packs. Format: docs/reference/formats/manifest.md.

Knows the format. Refuses to touch a disk or a store.

Reading is strict, since a manifest may come from a stranger: what is not exactly what `Lines` would write is refused. It is also
lean: lines are checked one by one and not kept, so that a million files cost their bytes and a few numbers each.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final

from trainer.base.digest import is_digest
from trainer.data.file_names import FileNames
from trainer.data.manifest_lines import LARGEST, Entry, Listing, Pack, Paths, damaged, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from mmap import mmap

FORMAT: Final = "reprise.manifest/1"
Place = tuple[int, int, int]
"""A segment as it is written: the number of its pack, its offset there, its length."""


class Lines:
    """A manifest as it is written: a line for each file, in the order of paths, and the first line last, when all is known."""

    def __init__(self) -> None:
        """No file yet."""
        self.files = self.bytes = 0
        self._content = hashlib.sha256()

    def line(self, path: str, *, size: int, sha256: str, segments: Iterable[Place]) -> bytes:
        """The line of the next file."""
        said = _line([path, size, sha256])
        self._content.update(said)
        self.files += 1
        self.bytes += size
        places = ",".join(f"[{pack},{offset},{length}]" for pack, offset, length in segments)
        return said[:-2] + f",[{places}]]\n".encode()

    @property
    def content(self) -> str:
        """The digest of what the files are, wherever their bytes lie."""
        return f"sha256:{self._content.hexdigest()}"

    def head(self, packs: Iterable[Pack]) -> bytes:
        """The first line; `packs` in the order in which the files first need them."""
        return _line(
            {
                "bytes": self.bytes,
                "content": self.content,
                "files": self.files,
                "format": FORMAT,
                "packs": [[pack.sha256, pack.size] for pack in packs],
            }
        )


def content_digest(entries: Iterable[Entry]) -> str:
    r"""The sha256 of one line `["path",size,"sha256:.."]\n` for each file."""
    running = hashlib.sha256()
    for entry in entries:
        running.update(_line([entry.path, entry.size, entry.sha256]))
    return f"sha256:{running.hexdigest()}"


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
        case {"bytes": int(), "content": str(content), "files": int(), "format": str(), "packs": list(), **rest} if (
            not rest and is_digest(content)
        ):
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
        if row[4] and not (row[4].startswith(b"[") and row[4].endswith(b"]")):
            return "a segment is not [pack, offset, length]"
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


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_NUMBER: Final = rb"(0|[1-9][0-9]{0,15})"
_SEGMENT: Final = re.compile(b",".join([_NUMBER] * 3))
