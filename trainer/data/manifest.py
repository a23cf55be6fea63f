"""The manifest (`reprise.manifest/1`): a dataset's files and their positions in packs. See docs/reference/formats/manifest.md.

Parsing is strict, because a store is not trusted: only the exact output of `ManifestWriter` is accepted. Lines are checked one by one and
are not kept, so that a million files need little memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final

from trainer.base.digest import is_digest
from trainer.data.file_names import FileNames
from trainer.data.manifest_lines import LARGEST, ManifestEntry, ManifestFiles, Pack, Paths, damaged, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from mmap import mmap

FORMAT: Final = "reprise.manifest/1"
Place = tuple[int, int, int]
"""A segment: the number of the pack, the offset in the pack, and the length."""


class ManifestWriter:
    """A writer of a manifest: a line for each file, in the order of paths, then the first line, which has the totals."""

    def __init__(self) -> None:
        self.files = self.bytes = 0
        self._content = hashlib.sha256()

    def line(self, path: str, *, size: int, sha256: str, segments: Iterable[Place]) -> bytes:
        """Return the line of the next file."""
        content = _line([path, size, sha256])
        self._content.update(content)
        self.files += 1
        self.bytes += size
        places = ",".join(f"[{pack},{offset},{length}]" for pack, offset, length in segments)
        return content[:-2] + f",[{places}]]\n".encode()

    @property
    def content(self) -> str:
        """The digest of the files, without their positions in packs."""
        return f"sha256:{self._content.hexdigest()}"

    def head(self, packs: Iterable[Pack]) -> bytes:
        """Return the first line of the manifest; `packs` are in the order in which files first use them."""
        return _line(
            {
                "bytes": self.bytes,
                "content": self.content,
                "files": self.files,
                "format": FORMAT,
                "packs": [[pack.sha256, pack.size] for pack in packs],
            }
        )


def content_digest(entries: Iterable[ManifestEntry]) -> str:
    r"""Return the content digest: the sha256 of a line `["path",size,"sha256:.."]\n` for each file."""
    running = hashlib.sha256()
    for entry in entries:
        running.update(_line([entry.path, entry.size, entry.sha256]))
    return f"sha256:{running.hexdigest()}"


def parse_manifest(raw: bytes | mmap) -> ManifestFiles:
    """Parse and check a whole manifest. Raise `ManifestError` with the line and the fault if it is invalid."""
    listing = _parse_head(raw)
    names, sums, running = FileNames(), _Sums(listing.packs), hashlib.sha256()
    number, at = 1, listing.first
    for number, row in enumerate(listing.rows(), 2):
        running.update(raw[at : row.end(3) + 1] + b"]\n")
        at = row.end()
        try:
            names.add(unescaped(row[1]))
        except UnicodeDecodeError as fault:
            raise damaged(number, "it is not UTF-8") from fault
        if problem := sums.add(row):
            raise damaged(number, problem)
    names.require(Paths(listing))
    totals = (f"sha256:{running.hexdigest()}", number - 1, sums.bytes, sums.packs)
    if totals != (listing.head["content"], listing.head["files"], listing.head["bytes"], len(listing.packs)):
        raise damaged(1, "its totals or packs do not match the listed files")
    return listing


def _parse_head(raw: bytes | mmap) -> ManifestFiles:
    listing = ManifestFiles(raw)
    match listing.head:
        case {"format": str(name)} if name != FORMAT:
            raise damaged(1, f"expected format {FORMAT!r}, found {name!r}")
        case {"bytes": int(), "content": str(content), "files": int(), "format": str(), "packs": list(), **rest} if (
            not rest and is_digest(content)
        ):
            pass
        case _:
            raise damaged(1, "expected the keys bytes, content, files, format, packs")
    if not all(_is_pack(row) for row in listing.head["packs"]):
        raise damaged(1, "a pack is not [digest, size]")
    if len(set(listing.packs)) != len(listing.packs) or _line(listing.head) != raw[: listing.first]:
        raise damaged(1, "it is not in canonical form, or lists a pack twice")
    return listing


def _is_pack(row: object) -> bool:
    match row:
        case [str(sha256), int(size)]:
            return is_digest(sha256) and type(size) is int and 0 < size <= LARGEST
    return False


class _Sums:
    """The sum of the files' sizes, and the number of packs that they use."""

    def __init__(self, packs: tuple[Pack, ...]) -> None:
        self._sizes = [pack.size for pack in packs]
        self.bytes, self.packs = 0, 0

    def add(self, row: re.Match[bytes]) -> str | None:
        """Add a line; return its fault, or `None` if it is valid."""
        rest = int(row[2])
        self.bytes += rest
        segments = row[4]
        if segments and not (segments.startswith(b"[") and segments.endswith(b"]")):
            return "a segment is not [pack, offset, length]"
        for segment in segments[1:-1].split(b"],[") if segments else ():
            if (match := _SEGMENT.fullmatch(segment)) is None:
                return "a segment is not [pack, offset, length]"
            pack, offset, length = int(match[1]), int(match[2]), int(match[3])
            if pack > self.packs or pack >= len(self._sizes):
                return "a segment lies in a pack that is not listed, or is not listed in the order of first use"
            self.packs += pack == self.packs
            if length == 0 or offset + length > self._sizes[pack]:
                return "a segment lies outside its pack"
            rest -= length
        return "its segments do not add up to its size" if rest else None


def _line(value: object) -> bytes:
    # RFC 8785 for strings, small integers and sorted keys, in a tenth of the time of a general encoder.
    return _ENCODER.encode(value).encode() + b"\n"


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_NUMBER: Final = rb"(0|[1-9][0-9]{0,15})"
_SEGMENT: Final = re.compile(b",".join([_NUMBER] * 3))
