"""Manifests of invented files, for tests."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_bytes
from trainer.data.manifest import ManifestWriter, parse_manifest
from trainer.data.manifest_lines import ManifestFiles, Pack
from trainer.data.packing import PACK_BYTES, HashedFile, PackPlan, Slice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.data.manifest_lines import ManifestEntry


def hashed_file(path: str, body: bytes = b"x", *, size: int | None = None) -> HashedFile:
    """Return a file without a pack; if it is larger than a pack, all its parts but the last are equal."""
    size = len(body) if size is None else size
    ends = [*range(PACK_BYTES, size, PACK_BYTES), size]
    parts = tuple(digest_of_bytes(body + bytes([end % PACK_BYTES != 0])) for end in ends)
    return HashedFile(path=path, size=size, sha256=digest_of_bytes(body), parts=parts if len(parts) > 1 else ())


def pack_files(*files: HashedFile, known: bytes | None = None) -> tuple[list[list[Slice]], bytes]:
    """Return the slices of each new pack, and the manifest; the digest of a pack is computed from the digests of its slices."""
    written = io.BytesIO()
    laying = PackPlan(written, known=None if known is None else ManifestFiles(known))
    for file in files:
        laying.add(file)
    lines = written.getvalue()
    plan = [[new] if isinstance(new, Slice) else list(new.slices(lines)) for new in laying.new]
    packs = [
        Pack(sha256=digest_of_bytes("".join(each.sha256 for each in slices).encode()), size=new.size)
        for new, slices in zip(laying.new, plan, strict=True)
    ]
    raw = b"".join(laying.manifest(lines, packs))
    parse_manifest(raw)
    return plan, raw


def manifest_of(entries: Iterable[ManifestEntry]) -> bytes:
    """Return the manifest of files that have packs."""
    lines = ManifestWriter()
    packs: dict[Pack, int] = {}
    body = b"".join(
        lines.line(
            entry.path,
            size=entry.size,
            sha256=entry.sha256,
            segments=[(packs.setdefault(each.pack, len(packs)), each.offset, each.length) for each in entry.segments],
        )
        for entry in entries
    )
    return lines.head(packs) + body
