"""The manifest (`reprise.manifest/1`): a dataset's files, and where their bytes lie in packs. docs/formats/manifest.md is its document.

Knows the format, which file names a dataset may have, and how files are laid into packs. Refuses to touch a disk or a store.

Reading is strict, since a manifest may come from a stranger: what is not exactly what `manifest_bytes` would write is refused. Laws, each
a test: `parse_manifest(manifest_bytes(m)) == m`; the same files laid from nothing give the same packs on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from trainer.digest import is_digest
from trainer.errors import ManifestError
from trainer.paths import LONGEST_PART, path_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FORMAT: Final = "reprise.manifest/1"
PACK_BYTES: Final = 32 << 20
"""The most that a pack holds. At 100 MB/s a pack takes 0.3 s, so a request's 10 to 30 ms of waiting cost under a tenth; 8 in flight fit
in 256 MB of a publisher's memory; and 1 % of new files make one new pack, not a hundred small objects."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file: its path, what it contains, and, once it is laid, the segments that make it up, in order."""

    path: str
    size: int
    sha256: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A stretch of a source file that goes into a pack."""

    path: str
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A dataset's files, sorted by the UTF-8 bytes of their paths, all of them laid."""

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
    check_paths([entry.path for entry in manifest.entries])
    if torn := next((entry for entry in manifest.entries if _is_torn(entry)), None):
        raise ManifestError(
            f"file {torn.path!r}: its segments lie outside their packs or do not add up to its size", hint=DAMAGED
        )
    packs = {pack: number for number, pack in enumerate(manifest.packs)}
    head = {
        "bytes": manifest.bytes,
        "content": manifest.content,
        "files": len(manifest.entries),
        "format": FORMAT,
        "packs": [[pack.sha256, pack.size] for pack in packs],
    }
    return _line(head) + b"".join(_line(_row(entry, packs)) for entry in manifest.entries)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises `ManifestError`, naming the line and what is wrong with it."""
    lines = data.splitlines(keepends=True) if data.endswith(b"\n") else []
    if not lines:
        raise _refused(1, "the manifest is empty or ends within a line")
    packs = _packs(_parsed(lines[0], 1))
    manifest = Manifest(
        entries=tuple(_entry(_parsed(line, number), number, packs) for number, line in enumerate(lines[1:], 2))
    )
    if manifest_bytes(manifest) != data:
        raise _refused(1, "the sums, the packs or the spelling are not those of the files listed")
    return manifest


def check_paths(paths: Sequence[str]) -> None:
    """Refuse files that could not lie together in one folder on every file system, or that are out of order."""
    before = b""
    names: dict[str, str] = {}
    for path in paths:
        if not _is_plain(path) and (fault := path_fault(path)):
            raise ManifestError(f"file {path!r}: {fault}", hint=RENAME)
        encoded = path.encode()
        if encoded <= before:
            raise ManifestError(f"file {path!r} stands twice or out of order", hint=DAMAGED)
        before = encoded
        names[_twin(path, names)] = path
    _no_file_is_a_folder(names)


def _is_plain(path: str) -> bool:
    """Whether a path is so plain that nothing can be wrong with it: most are, and a million take a second less a rule."""
    return len(path) <= LONGEST_PART and _PLAIN.fullmatch(path) is not None


def lay(entries: Sequence[Entry], known: Mapping[str, tuple[Segment, ...]]) -> list[tuple[Slice, ...]]:
    """Decide which new packs the files need: each pack as the slices that make it up.

    Files whose digest is `known` (an earlier version's, see `segments_by_digest`) and repeated ones need none. In path order, files up to
    `PACK_BYTES` share packs; a larger one is cut into parts of that size, each a pack of its own.
    """
    packs: list[tuple[Slice, ...]] = []
    shared: list[Slice] = []
    filled = 0
    for entry in distinct(entry for entry in entries if entry.sha256 not in known):
        parts = [
            Slice(path=entry.path, start=at, length=min(PACK_BYTES, entry.size - at))
            for at in range(0, entry.size, PACK_BYTES)
        ]
        if len(parts) > 1:
            packs += [(part,) for part in parts]
            continue
        if filled + entry.size > PACK_BYTES:
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


def segments_by_digest(manifest: Manifest) -> dict[str, tuple[Segment, ...]]:
    """Where each content of a manifest lies, for another version that has it too."""
    return {entry.sha256: entry.segments for entry in manifest.entries}


def distinct(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The first file of each content, empty ones left out."""
    seen: set[str] = set()
    for entry in entries:
        if entry.size and entry.sha256 not in seen:
            seen.add(entry.sha256)
            yield entry


def _line(value: object) -> bytes:
    # The canonical form (RFC 8785) of strings, small integers and one sorted object, at a tenth of a general encoder's time.
    return _ENCODER.encode(value).encode() + b"\n"


def _row(entry: Entry, packs: Mapping[Pack, int]) -> list[object]:
    segments = [[packs[segment.pack], segment.offset, segment.length] for segment in entry.segments]
    return [entry.path, entry.size, entry.sha256, segments]


def _parsed(line: bytes, number: int) -> Any:
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError) as fault:
        raise _refused(number, "it is not JSON in UTF-8") from fault


def _packs(head: Any) -> list[Pack]:
    match head:
        case {"format": str(name)} if name != FORMAT:
            raise _refused(1, f"format {name!r}; expected {FORMAT!r}")
        case {"bytes": int(), "content": str(), "files": int(), "format": str(), "packs": list(rows), **rest} if (
            not rest
        ):
            return [_pack(row) for row in rows]
        case _:
            raise _refused(1, "expected the keys bytes, content, files, format, packs")


def _pack(row: Any) -> Pack:
    match row:
        case [str(sha256), int(size)] if is_digest(sha256) and 0 < size <= _LARGEST:
            return Pack(sha256=sha256, size=size)
        case _:
            raise _refused(1, "a pack is not [digest, size]")


def _entry(row: Any, number: int, packs: Sequence[Pack]) -> Entry:
    match row:
        case [str(path), int(size), str(sha256), list(parts)] if is_digest(sha256) and 0 <= size <= _LARGEST:
            segments = tuple(_segment(part, number, packs) for part in parts)
            return Entry(path=path, size=size, sha256=sha256, segments=segments)
        case _:
            raise _refused(number, "expected [path, size, digest, segments]")


def _segment(part: Any, number: int, packs: Sequence[Pack]) -> Segment:
    match part:
        case [int(pack), int(offset), int(length)] if 0 <= pack < len(packs):
            return Segment(pack=packs[pack], offset=offset, length=length)
        case _:
            raise _refused(number, "a segment is not [pack, offset, length] in a listed pack")


def _is_torn(entry: Entry) -> bool:
    outside = any(
        part.offset < 0 or part.length <= 0 or part.offset + part.length > part.pack.size for part in entry.segments
    )
    return outside or sum(part.length for part in entry.segments) != entry.size


def _twin(path: str, names: Mapping[str, str]) -> str:
    folded = (
        path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    )
    if folded in names:
        raise ManifestError(f"files {names[folded]!r} and {path!r} are one file on some file systems", hint=RENAME)
    return folded


def _no_file_is_a_folder(names: Mapping[str, str]) -> None:
    for folder in {name.rpartition("/")[0] for name in names}:
        parts = folder.split("/")
        for depth in range(1, len(parts) + 1):
            if above := names.get("/".join(parts[:depth])):
                raise ManifestError(f"file {above!r} is also a folder", hint=RENAME)


def _refused(number: int, fault: str) -> ManifestError:
    return ManifestError(f"manifest, line {number}: {fault}", hint=DAMAGED)


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
RENAME: Final = "rename it, then publish again"
DAMAGED: Final = "it was damaged, or made by something else: publish the dataset again"
_LARGEST: Final = 2**53 - 1
