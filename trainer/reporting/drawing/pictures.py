"""Embed PNG files in a page, after checking that each is a valid PNG.

The outer form of a PNG is checked (ISO/IEC 15948, clause 5): signature, chunks with their checksums, sizes. The pixels are not decoded.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.markup import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST: Final = 2 << 20
"""The largest picture in bytes."""
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_SIDE: Final = 8192
"""The largest width and height in pixels."""
_ALLOWED: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"cHRM", b"pHYs", b"IDAT", b"IEND"})
"""Chunks with text or profiles are not allowed, since a page does not need them."""


def is_png(data: bytes) -> bool:
    """Return whether the data is a PNG of reasonable size, with complete chunks in order and of allowed kinds only."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13 or chunks[-1][0] != b"IEND":  # noqa: PLR2004 - the length of IHDR
        return False
    width, height = (int.from_bytes(chunks[0][1][at : at + 4], "big") for at in (0, 4))
    kinds = {kind for kind, _ in chunks}
    return 0 < width <= _SIDE and 0 < height <= _SIDE and b"IDAT" in kinds and kinds <= _ALLOWED


def embedded(data: bytes, *, description: str) -> Markup | None:
    """Return an image element with the picture as a data URL; `None` if it is no PNG or too large."""
    if len(data) > LARGEST or not is_png(data):
        return None
    return tag("img", src=f"data:image/png;base64,{b64encode(data).decode()}", alt=description)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each chunk; nothing if a chunk is damaged or data follows the last chunk."""
    found, at = [], len(_SIGNATURE)
    while data.startswith(_SIGNATURE) and at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body, end = data[at + 4 : at + 8], data[at + 8 : at + 8 + length], at + 12 + length
        if end > len(data) or zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
            return
        found.append((kind, body))
        at = end
        if kind == b"IEND":
            break
    if at == len(data):
        yield from found
