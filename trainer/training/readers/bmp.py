"""Workarounds for BMP files that Pillow decodes incorrectly.

Pillow assumes one bit or one byte per pixel for a palette of grays, and drops the fourth byte of 32-bit pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from trainer.training.readers.wide import no_such_color

if TYPE_CHECKING:
    from collections.abc import Mapping

_BITS: Final[Mapping[str, int]] = {"1": 1, "L": 8}
"""Bits per pixel that Pillow assumes for a palette of grays."""
_OS2: Final = 12
"""Bytes of the oldest header, which has 2-byte numbers."""

Values = np.ndarray[Any, Any]


def fourth_bytes_differ(image: Image.Image, body: memoryview | bytes) -> bool:
    """Return whether the fourth bytes of a 32-bit BMP without a declared alpha differ: some programs store alpha in them."""
    tile = _tile(image)
    rawmode = str(tile.args[0])
    if tile.codec_name != "raw" or len(rawmode) != 4 or "X" not in rawmode:  # noqa: PLR2004 - bytes a pixel
        return False
    fourth = np.frombuffer(body, np.uint8, 4 * image.width * image.height, tile.offset)[rawmode.index("X") :: 4]
    return bool(fourth.min() != fourth.max())


def grays_of_palette(image: Image.Image, body: memoryview | bytes) -> Image.Image | None:
    """Decode the picture if Pillow assumes a wrong number of bits per pixel; otherwise return None."""
    tile, bits = _tile(image), _bits(body[14:] if image.format == "BMP" else body)
    if tile.codec_name != "raw" or _BITS.get(image.mode, bits) == bits:
        return None
    _, stride, direction = tile.args
    rows = np.frombuffer(body, np.uint8, stride * image.height, tile.offset).reshape(image.height, stride)
    unpacked = np.unpackbits(rows, axis=1).reshape(image.height, -1, bits)
    indices = np.packbits(unpacked, axis=2)[:, : image.width, 0] >> (8 - bits)
    if image.mode == "1" and indices.max() > 1:
        raise no_such_color(int(indices.max()), 2)
    return Image.fromarray((indices * 255 if image.mode == "1" else indices)[::direction])


def _tile(image: Image.Image) -> Any:
    return getattr(image, "tile")[0]  # noqa: B009 - only files have it


def _bits(head: memoryview | bytes) -> int:
    """Return the bits per pixel from the header."""
    start = 10 if int.from_bytes(head[:4], "little") == _OS2 else 14
    return int.from_bytes(head[start : start + 2], "little")
