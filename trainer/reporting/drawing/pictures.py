"""Pictures on a page of their own: PNG files by value, and only what is one.

Knows the outer form of a PNG (ISO/IEC 15948, clause 5): signature, chunks with their checks, sizes. Refuses to decode: the reader's
browser does, and what is not of this form is not handed to it.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.markup import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST: Final = 2 << 20
"""Bytes of a picture on a page."""
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_SIDE: Final = 8192
"""Pixels of a side."""
_ALLOWED: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"cHRM", b"pHYs", b"IDAT", b"IEND"})
"""No text and no profile: nothing that a page has no use for."""


def is_png(data: bytes) -> bool:
    """Tell whether this is a PNG of a sane size: its chunks whole, in place, and of the kinds that make a picture."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13 or chunks[-1][0] != b"IEND":  # noqa: PLR2004 - its length
        return False
    width, height = (int.from_bytes(chunks[0][1][at : at + 4], "big") for at in (0, 4))
    kinds = {kind for kind, _ in chunks}
    return 0 < width <= _SIDE and 0 < height <= _SIDE and b"IDAT" in kinds and kinds <= _ALLOWED


def embedded(data: bytes, *, said: str) -> Markup | None:
    """Give an image element that holds the picture; None for what is no PNG, or too large."""
    if len(data) > LARGEST or not is_png(data):
        return None
    return tag("img", src=f"data:image/png;base64,{b64encode(data).decode()}", alt=said)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's kind and content; none at all where one is damaged or something stands behind the last."""
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
