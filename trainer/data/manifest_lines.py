"""A manifest's lines, read on demand from bytes whose digest was verified: no list of a million objects, no parse of what is not asked for.

Knows how a line is found by its number or its path and what stands in it. Refuses to judge a manifest as a whole: `trainer.data.manifest`
does, once, before a dataset is called complete.
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

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW: Final = re.compile(
    rb'\["((?:[^"\\\x00-\x1f\x7f]|\\")+)",(0|[1-9][0-9]{0,15}),"(sha256:[0-9a-f]{64})",\[([0-9,\[\]]*)\]\]\n'
)
"""A file's line in its one spelling: path, size, digest, segments. A path that may stand in a manifest needs one escape only."""
LARGEST: Final = 2**53 - 1
MADV_DONTNEED: Final[int | None] = getattr(mapping, "MADV_DONTNEED", None)
_IN_HAND: Final = 8 << 20
"""Bytes of a mapped manifest that are kept in memory while it is read from its first line to its last."""
DAMAGED: Final = "it was damaged, or made by something else: publish the dataset again"
RENAME: Final = "rename it, then publish again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """An object in the store: the bare concatenation of some files' bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a file's bytes: `length` bytes at `offset` in a pack."""

    pack: Pack
    offset: int
    length: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its pack, whose digest is then its own."""
        return self.length == self.pack.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file: its path, what it contains, and, once it is laid, the segments that make it up, in order."""

    path: str
    size: int
    sha256: str
    segments: tuple[Segment, ...] = ()


class Listing(Sequence[Entry]):
    """The files of a manifest, in order: `listing[7]`, `listing.find("a/b.png")`. Costs 8 bytes a file, once something is looked up."""

    def __init__(self, raw: bytes | mmap) -> None:
        """Read the first line; `raw` is held and not copied."""
        self.raw = raw
        self.first = raw.find(b"\n") + 1
        try:
            self.head = json.loads(raw[: self.first])
            self.packs = tuple(Pack(sha256=sha256, size=size) for sha256, size in self.head["packs"])
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            raise damaged(1, "it is not a manifest's first line") from fault

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._starts)

    @overload
    def __getitem__(self, number: int) -> Entry: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Entry]: ...
    def __getitem__(self, number: int | slice) -> Entry | Sequence[Entry]:
        """The file of this number, or the files of these."""
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return self._entry(self.row(number))

    def __iter__(self) -> Iterator[Entry]:
        """All files, in order."""
        return map(self._entry, self.rows())

    def rows(self) -> Iterator[re.Match[bytes]]:
        """All lines, taken apart into path, size, digest and segments as they are spelled."""
        at = self.first
        for row in rows_from(self.raw, at):
            at = row.end()
            yield row
        if at < len(self.raw):
            raise self._odd(at)

    def row(self, number: int) -> re.Match[bytes]:
        """One line, taken apart."""
        row = ROW.match(self.raw, self._starts[number])
        if row is None:
            raise damaged(number + 2, "it is spelled otherwise")
        return row

    def find(self, path: str) -> int | None:
        """The number of the file with this path; None when there is none. Looks at 20 lines of a million."""
        wanted = path.encode(errors="surrogateescape")
        number = bisect_left(range(len(self)), wanted, key=lambda each: unescaped(self.row(each)[1]))
        return number if number < len(self) and unescaped(self.row(number)[1]) == wanted else None

    def content(self) -> str:
        """The digest of what the files are, wherever their bytes lie: the lines without their segments."""
        running = hashlib.sha256()
        for row in self.rows():
            running.update(self.raw[row.start() : row.end(3) + 1] + b"]\n")
        return f"sha256:{running.hexdigest()}"

    def path(self, number: int) -> str:
        """One path."""
        return unescaped(self.row(number)[1]).decode()

    @cached_property
    def _starts(self) -> array[int]:
        """Where each line begins."""
        ends = array("Q", (found.end() for found in _END.finditer(self.raw)))
        ends.pop()
        return ends

    def _odd(self, at: int) -> ManifestError:
        """The error for the line that begins at `at`, with what can be told about it."""
        number, line = self.raw[:at].count(b"\n") + 1, self.raw[at : self.raw.find(b"\n", at) + 1]
        try:
            path = json.loads(line)[0]
        except (ValueError, LookupError, TypeError, RecursionError):
            return damaged(number, "it is not JSON in UTF-8, or ends early")
        if isinstance(path, str) and (fault := path_fault(path)):
            return ManifestError(f"file {path!r}: {fault}", hint=RENAME)
        return damaged(number, "expected [path, size, digest, segments], in the one spelling")

    def _entry(self, row: re.Match[bytes]) -> Entry:
        segments = tuple(
            Segment(pack=self.packs[pack], offset=offset, length=length)
            for pack, offset, length in json.loads(b"[%b]" % row[4])
        )
        return Entry(path=unescaped(row[1]).decode(), size=int(row[2]), sha256=row[3].decode(), segments=segments)


class Paths(Sequence[str]):
    """The paths of a listing, each made when it is asked for."""

    def __init__(self, listing: Listing) -> None:
        """Look at this listing."""
        self._listing = listing

    def __len__(self) -> int:
        """How many there are."""
        return len(self._listing)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        """The path of this number, or the paths of these."""
        if isinstance(number, slice):
            return [self._listing.path(each) for each in range(*number.indices(len(self)))]
        return self._listing.path(number)

    def __iter__(self) -> Iterator[str]:
        """All paths, in order."""
        return (unescaped(row[1]).decode() for row in self._listing.rows())

    def __contains__(self, path: object) -> bool:
        """Whether there is a file of this path."""
        return isinstance(path, str) and self._listing.find(path) is not None


def rows_from(raw: bytes | mmap, at: int) -> Iterator[re.Match[bytes]]:
    """The lines from this place on, as far as they are spelled as files' lines are; of a map little is kept in memory."""
    held = at
    while row := ROW.match(raw, at):
        at = row.end()
        yield row
        if at - held > _IN_HAND:
            let_go(raw, held, at)
            held = at
    let_go(raw, held, at)


def digest_of_raw(raw: bytes | mmap) -> str:
    """Name a manifest's bytes, and keep none of them in memory where they are mapped."""
    running = hashlib.sha256()
    with memoryview(raw) as view:
        for at in range(0, len(view), _IN_HAND):
            running.update(view[at : at + _IN_HAND])
            let_go(raw, at, at + _IN_HAND)
    return f"sha256:{running.hexdigest()}"


def let_go(mapped: bytes | mmap, start: int, end: int) -> None:
    """Give pages of a map back: they stay in the system's cache, and come again when they are used."""
    first, last = -(-start // PAGESIZE) * PAGESIZE, min(end, len(mapped)) // PAGESIZE * PAGESIZE
    if isinstance(mapped, mmap) and MADV_DONTNEED is not None and last > first:
        mapped.madvise(MADV_DONTNEED, first, last - first)


def unescaped(path: bytes) -> bytes:
    """A path's bytes as they are: the quotation mark is the one character that its line escapes."""
    return path.replace(b'\\"', b'"') if b"\\" in path else path


def damaged(number: int, fault: str) -> ManifestError:
    """The error for a manifest that is not one."""
    return ManifestError(f"manifest, line {number}: {fault}", hint=DAMAGED)


_END: Final = re.compile(rb"\n")
