"""Packing: which new packs a dataset's files need, where each file then lies, and so the manifest, line by line.

Knows how files are laid; the same files laid from nothing give the same packs on every machine. Refuses to read a file's byte. Of a
content that was laid it keeps its digest and its place, 60 bytes: what the files are called stands in the lines that it writes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.data.digest_set import Digests
from trainer.data.manifest import Lines
from trainer.data.manifest_lines import let_go, rows_from, unescaped

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence
    from mmap import mmap

    from trainer.data.manifest import Place
    from trainer.data.manifest_lines import Listing, Pack

PACK_BYTES: Final = 32 << 20
"""The most that a pack holds. At 100 MB/s a pack takes 0.3 s, so a request's 10 to 30 ms of waiting cost under a tenth; 4 in flight fit
in 128 MB of a publisher's memory; and 1 % of new files make one new pack, not a hundred small objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """A file as it was when it was first read."""

    path: str
    size: int
    sha256: str
    parts: tuple[str, ...] = ()
    """The digest of each part, of a file that is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A stretch of a source file that goes into a pack, and its digest."""

    path: str
    start: int
    length: int
    sha256: str

    @property
    def size(self) -> int:
        """Of the pack that it is, where it is one."""
        return self.length


@dataclass(slots=True, kw_only=True)
class Shared:
    """A new pack of small files, whole ones; it grows while they are laid."""

    number: int
    """In the manifest."""
    at: int
    """Where the line of its first file begins, in the lines that were written."""
    size: int = 0

    def slices(self, lines: bytes | mmap) -> Iterator[Slice]:
        """Its files, found in the lines again: those that lie where it was filled so far, and not a twin of an earlier one."""
        filled = 0
        for row in rows_from(lines, self.at):
            length = int(row[2])
            if row[4] == b"[%d,%d,%d]" % (self.number, filled, length):
                yield Slice(path=unescaped(row[1]).decode(), start=0, length=length, sha256=row[3].decode())
                filled += length
            if filled == self.size:
                break
        let_go(lines, self.at, row.end())


class Laying:
    """Files as they are laid, one after the other in path order.

    Contents that are known, an earlier version's, and repeated ones stay where they lie. Other files up to `most` bytes share packs; a
    larger one is cut into parts of that size, each a pack of its own.
    """

    def __init__(self, written: BinaryIO, *, known: Listing | None = None, most: int = PACK_BYTES) -> None:
        """Write each file's line into `written`, from its beginning."""
        self.lines = Lines()
        self.new: list[Shared | Slice] = []
        """The packs that have to be made, in the order of their numbers."""
        self._written, self._most, self._at = written, most, 0
        self._contents = Digests()
        # Of each content its pack, as counted here, and its offset there; of one that lies in several packs, all of its places.
        self._packs, self._offsets = array("I"), array("Q")
        self._cut: dict[int, Sequence[Place]] = {}
        # Packs are counted from the known ones on; those that are needed have a number too, in the order of their first need.
        self._old = () if known is None else known.packs
        self._numbers: dict[int, int] = {}
        self._open, self._pack = Shared(number=-1, at=0, size=most), -1  # full: the first file opens another
        if known is not None:
            self._know(known)

    def add(self, file: Hashed) -> None:
        """Lay the next file, and write its line."""
        segments = [
            (self._numbers.setdefault(pack, len(self._numbers)), offset, length)
            for pack, offset, length in (self._places(file) if file.size else ())
        ]
        line = self.lines.line(file.path, size=file.size, sha256=file.sha256, segments=segments)
        self._written.write(line)
        self._at += len(line)

    def close(self) -> None:
        """No file comes any more: let go of what finds contents again, 60 bytes each."""
        self._contents, self._packs, self._offsets = Digests(), array("I"), array("Q")
        self._cut.clear()

    def manifest(self, lines: bytes | mmap, made: Sequence[Pack]) -> Iterator[bytes]:
        """The manifest in blocks: `lines` as they were written, below their first line, now that the `new` packs are `made`."""
        packs = [*self._old, *made]
        needed = [packs[pack] for pack in self._numbers]
        numbers = {pack: number for number, pack in enumerate(dict.fromkeys(needed))}
        yield self.lines.head(numbers)
        if len(numbers) < len(needed):  # as where parts of a file are all zeros: each pack is listed once
            yield from _renumbered(lines, [numbers[pack] for pack in needed])
        else:
            for at in range(0, len(lines), _BLOCK):
                yield lines[at : at + _BLOCK]
                let_go(lines, at, at + _BLOCK)

    def _know(self, listing: Listing) -> None:
        for row in listing.rows():
            segments = _places(row)
            if segments and self._contents.add(row[3].decode()) == len(self._packs):
                self._note(segments)

    def _places(self, file: Hashed) -> Sequence[Place]:
        number = self._contents.add(file.sha256)
        if number == len(self._packs):
            self._note(self._laid(file))
        return self._cut.get(number) or ((self._packs[number], self._offsets[number], file.size),)

    def _note(self, segments: Sequence[Place]) -> None:
        """Remember where the next content lies."""
        if len(segments) > 1:
            self._cut[len(self._packs)] = segments
        self._packs.append(segments[0][0])
        self._offsets.append(segments[0][1])

    def _laid(self, file: Hashed) -> Sequence[Place]:
        """New room for a file."""
        if file.size > self._most:
            return [(self._begun(part), 0, part.length) for part in self._parts(file)]
        if self._open.size + file.size > self._most:
            self._open = Shared(number=len(self._numbers), at=self._at)
            self._pack = self._begun(self._open)
        self._open.size += file.size
        return ((self._pack, self._open.size - file.size, file.size),)

    def _parts(self, file: Hashed) -> Iterator[Slice]:
        for at, sha256 in zip(range(0, file.size, self._most), file.parts, strict=True):
            yield Slice(path=file.path, start=at, length=min(self._most, file.size - at), sha256=sha256)

    def _begun(self, new: Shared | Slice) -> int:
        """A pack more; it is needed by the file that is laid now."""
        pack = len(self._old) + len(self.new)
        self.new.append(new)
        self._numbers[pack] = len(self._numbers)
        return pack


def _places(row: re.Match[bytes]) -> Sequence[Place]:
    """Where a line says that its file lies."""
    numbers = [int(number) for number in row[4].translate(None, b"[]").split(b",") if number]
    return [*zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)]


def _renumbered(lines: bytes | mmap, numbers: Sequence[int]) -> Iterator[bytes]:
    for row in rows_from(lines, 0):
        spelled = (b"[%d,%d,%d]" % (numbers[pack], offset, length) for pack, offset, length in _places(row))
        yield lines[row.start() : row.start(4)] + b",".join(spelled) + b"]]\n"


_BLOCK: Final = 1 << 20
