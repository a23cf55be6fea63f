"""Assign the files of a dataset to packs, and write the manifest line by line.

Equal files result in equal packs on every machine. No file is read; for each distinct content, its digest and position take 60 bytes of
memory.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.data.manifest import ManifestWriter
from trainer.data.manifest_lines import release_pages, rows_from, unescaped

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence
    from mmap import mmap

    from trainer.data.manifest import Place
    from trainer.data.manifest_lines import ManifestFiles, Pack

PACK_BYTES: Final = 32 << 20
"""Maximum size of a pack. At 100 MB/s a pack takes 0.3 s, and the latency of a request (10 to 30 ms) is at most a tenth of it; 4 packs in
flight need 128 MB of memory."""


_DIGEST_BYTES: Final = 32
_FEWEST_SLOTS: Final = 1024


class DigestIndex:
    """Distinct digests, numbered from 0 in the order of addition. A digest takes 40 to 50 bytes; in a dict of strings it takes 250.

    >>> index = DigestIndex()
    >>> [index.add("sha256:" + 64 * digit) for digit in "aba"], len(index)
    ([0, 1, 0], 2)
    """

    def __init__(self) -> None:
        self._digests = bytearray()
        # A hash table of digest numbers plus 1; 0 is a free slot. At most half of the slots are used.
        self._slots = array("I", bytes(4 * _FEWEST_SLOTS))

    def __len__(self) -> int:
        return len(self._digests) // _DIGEST_BYTES

    def add(self, sha256: str) -> int:
        """Return the number of a digest, which is added if it is new; the number of a new digest is the previous length."""
        digest = bytes.fromhex(sha256.removeprefix("sha256:"))
        slot = self._slot(digest)
        if not self._slots[slot]:
            self._digests += digest
            self._slots[slot] = len(self)
            if 2 * len(self) > len(self._slots):
                self._slots = array("I", bytes(4 * 2 * len(self._slots)))
                for number in range(len(self)):
                    digest = bytes(self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES])
                    self._slots[self._slot(digest)] = number + 1
            return len(self) - 1
        return self._slots[slot] - 1

    def _slot(self, digest: bytes) -> int:
        """Return the slot of a digest, or the free slot for it."""
        slots, last = self._slots, len(self._slots) - 1
        slot = hash(digest) & last
        while (number := slots[slot]) and self._digests[
            (number - 1) * _DIGEST_BYTES : number * _DIGEST_BYTES
        ] != digest:
            slot = (slot + 1) & last
        return slot


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedFile:
    """A file with its digest from the first read."""

    path: str
    size: int
    sha256: str
    parts: tuple[str, ...] = ()
    """The digests of the parts of a large file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A range of a source file, which is stored in a pack, and its digest."""

    path: str
    start: int
    length: int
    sha256: str

    @property
    def size(self) -> int:
        """The size of the pack, if the slice is a whole pack."""
        return self.length


@dataclass(slots=True, kw_only=True)
class SharedPack:
    """A new pack of whole small files, which grows while files are added."""

    number: int
    """The number in the manifest."""
    at: int
    """The offset of the line of its first file in the written lines."""
    size: int = 0

    def slices(self, lines: bytes | mmap) -> Iterator[Slice]:
        """Yield the files of the pack from the written lines, without duplicates of earlier files."""
        filled = 0
        for row in rows_from(lines, self.at):
            length = int(row[2])
            if row[4] == b"[%d,%d,%d]" % (self.number, filled, length):
                yield Slice(path=unescaped(row[1]).decode(), start=0, length=length, sha256=row[3].decode())
                filled += length
            if filled == self.size:
                break
        release_pages(lines, self.at, row.end())


class PackPlan:
    """The assignment of files to packs, in the order of paths.

    Repeated contents and contents of an earlier version keep their positions. Other files up to `most` bytes share packs; larger files are
    cut into parts of `most` bytes, each a pack.
    """

    def __init__(self, written: BinaryIO, *, known: ManifestFiles | None = None, most: int = PACK_BYTES) -> None:
        """Write each file's line to `written`."""
        self.lines = ManifestWriter()
        self.new: list[SharedPack | Slice] = []
        """New packs, in the order of their numbers."""
        self._written, self._most, self._at = written, most, 0
        self._contents = DigestIndex()
        # Pack and offset of each content; for contents in several packs, all segments.
        self._packs, self._offsets = array("I"), array("Q")
        self._cut: dict[int, Sequence[Place]] = {}
        # New packs are numbered after the known packs. Used packs also have a number in the manifest, in the order of first use.
        self._old = () if known is None else known.packs
        self._numbers: dict[int, int] = {}
        self._open, self._pack = SharedPack(number=-1, at=0, size=most), -1  # full, so the first file starts a new pack
        for row in () if known is None else known.rows():
            segments = _places(row)
            if segments and self._contents.add(row[3].decode()) == len(self._packs):
                self._remember(segments)

    def add(self, file: HashedFile) -> None:
        """Assign the next file, and write its line."""
        segments = [
            (self._numbers.setdefault(pack, len(self._numbers)), offset, length)
            for pack, offset, length in (self._places(file) if file.size else ())
        ]
        line = self.lines.line(file.path, size=file.size, sha256=file.sha256, segments=segments)
        self._written.write(line)
        self._at += len(line)

    def close(self) -> None:
        """Free the memory for finding repeated contents, after the last file."""
        self._contents, self._packs, self._offsets = DigestIndex(), array("I"), array("Q")
        self._cut.clear()

    def manifest(self, lines: bytes | mmap, new: Sequence[Pack]) -> Iterator[bytes]:
        """Yield the manifest in blocks: its first line, then the written `lines`; `new` are the uploaded new packs."""
        packs = [*self._old, *new]
        needed = [packs[pack] for pack in self._numbers]
        numbers = {pack: number for number, pack in enumerate(dict.fromkeys(needed))}
        yield self.lines.head(numbers)
        if len(numbers) < len(needed):  # equal packs, for example parts of zeros, are listed once
            yield from _renumbered(lines, [numbers[pack] for pack in needed])
        else:
            for at in range(0, len(lines), _BLOCK):
                yield lines[at : at + _BLOCK]
                release_pages(lines, at, at + _BLOCK)

    def _places(self, file: HashedFile) -> Sequence[Place]:
        number = self._contents.add(file.sha256)
        if number == len(self._packs):
            self._remember(self._assign(file))
        return self._cut.get(number) or ((self._packs[number], self._offsets[number], file.size),)

    def _remember(self, segments: Sequence[Place]) -> None:
        """Record the position of the next content."""
        if len(segments) > 1:
            self._cut[len(self._packs)] = segments
        self._packs.append(segments[0][0])
        self._offsets.append(segments[0][1])

    def _assign(self, file: HashedFile) -> Sequence[Place]:
        """Assign a file to new packs."""
        if file.size > self._most:
            starts = zip(range(0, file.size, self._most), file.parts, strict=True)
            lengths = ((at, min(self._most, file.size - at), sha256) for at, sha256 in starts)
            parts = (Slice(path=file.path, start=at, length=length, sha256=sha256) for at, length, sha256 in lengths)
            return [(self._start(part), 0, part.length) for part in parts]
        if self._open.size + file.size > self._most:
            self._open = SharedPack(number=len(self._numbers), at=self._at)
            self._pack = self._start(self._open)
        self._open.size += file.size
        return ((self._pack, self._open.size - file.size, file.size),)

    def _start(self, new: SharedPack | Slice) -> int:
        """Start a new pack for the current file, and return its number."""
        pack = len(self._old) + len(self.new)
        self.new.append(new)
        self._numbers[pack] = len(self._numbers)
        return pack


def _places(row: re.Match[bytes]) -> Sequence[Place]:
    """Return the segments of a line."""
    numbers = [int(number) for number in row[4].translate(None, b"[]").split(b",") if number]
    return [*zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)]


def _renumbered(lines: bytes | mmap, numbers: Sequence[int]) -> Iterator[bytes]:
    for row in rows_from(lines, 0):
        segments = (b"[%d,%d,%d]" % (numbers[pack], offset, length) for pack, offset, length in _places(row))
        yield lines[row.start() : row.start(4)] + b",".join(segments) + b"]]\n"


_BLOCK: Final = 1 << 20
