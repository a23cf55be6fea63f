"""The lines of a manifest, parsed on demand, so that a million files do not need a million objects.

`trainer.data.manifest` checks a whole manifest once, before a dataset is complete.
"""

from __future__ import annotations

import hashlib
import json
import mmap as mapping
import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from mmap import PAGESIZE, mmap
from typing import TYPE_CHECKING, Final, overload

from trainer.base.errors import ManifestError
from trainer.base.paths import path_fault
from trainer.data.file_names import DAMAGED, RENAME

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW: Final = re.compile(
    rb'\["((?:[^"\\\x00-\x1f\x7f]|\\")+)",(0|[1-9][0-9]{0,15}),"(sha256:[0-9a-f]{64})",\[([0-9,\[\]]*)\]\]\n'
)
"""A file's line in canonical form: path, size, digest, segments. The quotation mark is the only escaped character in valid paths."""
LARGEST: Final = 2**53 - 1
MADV_DONTNEED: Final[int | None] = getattr(mapping, "MADV_DONTNEED", None)
_WINDOW: Final = 8 << 20
"""Maximum bytes of a mapped manifest that stay in memory while all lines are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """An object in the store: the concatenated bytes of files."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A range of a file, stored as `length` bytes at `offset` in a pack."""

    pack: Pack
    offset: int
    length: int

    @property
    def is_whole(self) -> bool:
        """Whether the segment is a whole pack, so that the pack's digest is its digest."""
        return self.length == self.pack.size


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """A file: path, size, digest, and its segments in order."""

    path: str
    size: int
    sha256: str
    segments: tuple[Segment, ...] = ()


class ManifestFiles(Sequence[ManifestEntry]):
    """The files of a manifest, in order: `listing[7]`, `listing.find("a/b.png")`. The first lookup creates an index, 8 bytes per file."""

    def __init__(self, raw: bytes | mmap) -> None:
        """Parse the first line; `raw` is not copied. Raise `ManifestError` if the first line is invalid."""
        self.raw = raw
        self._latest: tuple[str, int | None] = ("", None)
        """The path that `name` returned last, and its number."""
        self.first = raw.find(b"\n") + 1
        try:
            self.head = json.loads(raw[: self.first])
            self.packs = tuple(Pack(sha256=sha256, size=size) for sha256, size in self.head["packs"])
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            raise damaged(1, "it is not the first line of a manifest") from fault

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, number: int) -> ManifestEntry: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[ManifestEntry]: ...
    def __getitem__(self, number: int | slice) -> ManifestEntry | Sequence[ManifestEntry]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return self._entry(self.row(number))

    def __iter__(self) -> Iterator[ManifestEntry]:
        return map(self._entry, self.rows())

    def rows(self) -> Iterator[re.Match[bytes]]:
        """Yield all lines as matches of path, size, digest and segments. Raise `ManifestError` if a line is invalid."""
        at = self.first
        for row in rows_from(self.raw, at):
            at = row.end()
            yield row
        if at < len(self.raw):
            raise self._line_error(at)

    def row(self, number: int) -> re.Match[bytes]:
        """Return the line of the file `number` as a match. Raise `ManifestError` if it is invalid."""
        row = ROW.match(self.raw, self._starts[number])
        if row is None:
            raise damaged(number + 2, "it is not in canonical form")
        return row

    def find(self, path: str) -> int | None:
        """Return the number of the file with this path, or `None`: the one that `name` returned last, otherwise by binary search."""
        latest, number = self._latest
        if path == latest:
            return number
        wanted = path.encode(errors="surrogateescape")
        number = bisect_left(range(len(self)), wanted, key=self.path)
        return number if number < len(self) and self.path(number) == wanted else None

    def name(self, number: int) -> str:
        """Return the path of a file, and keep its number, because a reader usually opens this path next."""
        path = self.path(number).decode()
        self._latest = (path, number if number >= 0 else number + len(self))
        return path

    def path(self, number: int) -> bytes:
        """Return the path of a file without parsing the rest of its line, because a binary search reads many paths."""
        start = self._starts[number] + 2
        end = self.raw.find(b'"', start)
        while self.raw[end - 1 : end] == b"\\":  # an escaped quotation mark
            end = self.raw.find(b'"', end + 1)
        return unescaped(self.raw[start:end])

    def content(self) -> str:
        """Return the digest of the lines without their segments."""
        running = hashlib.sha256()
        for row in self.rows():
            running.update(self.raw[row.start() : row.end(3) + 1] + b"]\n")
        return f"sha256:{running.hexdigest()}"

    @cached_property
    def _starts(self) -> array[int]:
        """The offset of each line."""
        ends = array("Q", (found.end() for found in re.finditer(rb"\n", self.raw)))
        ends.pop()
        return ends

    def _line_error(self, at: int) -> ManifestError:
        """Return the error for the invalid line at offset `at`."""
        number, line = self.raw[:at].count(b"\n") + 1, self.raw[at : self.raw.find(b"\n", at) + 1]
        try:
            path = json.loads(line)[0]
        except (ValueError, LookupError, TypeError, RecursionError):
            return damaged(number, "it is not JSON in UTF-8, or ends early")
        if isinstance(path, str) and (fault := path_fault(path)):
            return ManifestError(f"file {path!r}: {fault}", hint=RENAME)
        return damaged(number, "expected [path, size, digest, segments] in canonical form")

    def _entry(self, row: re.Match[bytes]) -> ManifestEntry:
        numbers = [int(number) for number in row[4].translate(None, b"[]").split(b",") if number]
        segments = tuple(
            Segment(pack=self.packs[pack], offset=offset, length=length)
            for pack, offset, length in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        )
        return ManifestEntry(
            path=unescaped(row[1]).decode(), size=int(row[2]), sha256=row[3].decode(), segments=segments
        )


class Paths(Sequence[str]):
    """The paths of a listing, decoded on demand."""

    def __init__(self, listing: ManifestFiles) -> None:
        self._listing = listing

    def __len__(self) -> int:
        return len(self._listing)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return self._listing.name(number)

    def __iter__(self) -> Iterator[str]:
        return (unescaped(row[1]).decode() for row in self._listing.rows())

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._listing.find(path) is not None


def rows_from(raw: bytes | mmap, at: int) -> Iterator[re.Match[bytes]]:
    """Yield the valid file lines from an offset up to the first invalid line, releasing the pages of a memory map that were read."""
    start = at
    while row := ROW.match(raw, at):
        at = row.end()
        yield row
        if at - start > _WINDOW:
            release_pages(raw, start, at)
            start = at
    release_pages(raw, start, at)


def digest_of_raw(raw: bytes | mmap) -> str:
    """Return the digest of a manifest, releasing the pages of a memory map that were read."""
    running = hashlib.sha256()
    with memoryview(raw) as view:
        for at in range(0, len(view), _WINDOW):
            running.update(view[at : at + _WINDOW])
            release_pages(raw, at, at + _WINDOW)
    return f"sha256:{running.hexdigest()}"


def release_pages(mapped: bytes | mmap, start: int, end: int) -> None:
    """Release the pages of a memory map from the process; they stay in the system's page cache."""
    first, last = -(-start // PAGESIZE) * PAGESIZE, min(end, len(mapped)) // PAGESIZE * PAGESIZE
    if isinstance(mapped, mmap) and MADV_DONTNEED is not None and last > first:
        mapped.madvise(MADV_DONTNEED, first, last - first)


def unescaped(path: bytes) -> bytes:
    """Return a path's bytes without the escapes of quotation marks."""
    return path.replace(b'\\"', b'"') if b"\\" in path else path


def damaged(number: int, fault: str) -> ManifestError:
    """Return the error for an invalid line of a manifest."""
    return ManifestError(f"manifest, line {number}: {fault}", hint=DAMAGED)
