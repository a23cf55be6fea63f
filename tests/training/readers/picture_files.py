"""Picture files for tests, written by Pillow, or byte by byte for forms that Pillow cannot write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

Values = np.ndarray[Any, Any]


def save_picture(image: Image.Image | Values, kind: str, **options: Any) -> bytes:
    """Return a picture file of the format `kind`, written by Pillow."""
    body = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(body, kind, **options)
    return body.getvalue()


def png(values: Values, *, bits: int = 16, color: int, key: bytes = b"", palette: bytes = b"") -> bytes:
    """Return a PNG of `[height, width, channels]`; `color`: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA; `key` is tRNS."""
    height, width = values.shape[:2]
    rows = (row.astype(">u2" if bits == 16 else "u1").tobytes() for row in values)
    if bits < 8:
        rows = (
            np.packbits(np.unpackbits(row.astype("u1").reshape(-1, 1), axis=1)[:, -bits:]).tobytes() for row in values
        )
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    data = _chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    head += _chunk(b"PLTE", palette) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + head + (_chunk(b"tRNS", key) if key else b"") + data + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(raw: bytes, size: tuple[int, int], *, bits: Sequence[int], photometric: int, **tags: Sequence[int]) -> bytes:
    """Return a little-endian TIFF of one strip; `size` is height and width, and `tags` have the names in `numbers`."""
    numbers = {"extra": 338, "sample_format": 339, "planar": 284, "orientation": 274, "compression": 259, "colors": 320}
    entries: dict[int, Sequence[int]] = {
        256: [size[1]],
        257: [size[0]],
        258: bits,
        259: [1],
        262: [photometric],
        277: [len(bits)],
        278: [size[0]],
        279: [len(raw)],
    } | {numbers[name]: values for name, values in tags.items()}
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    later = b""
    head = b""
    for tag in sorted([*entries, 273]):
        values = [start] if tag == 273 else entries[tag]
        kind, form = (4, "I") if tag in {273, 279} else (3, "H")
        packed = struct.pack(f"<{len(values)}{form}", *values)
        if len(packed) > 4:
            place, later = start + len(raw) + len(later), later + packed
            packed = struct.pack("<I", place)
        head += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(entries) + 1) + head + bytes(4) + raw + later


def bmp(raw: bytes, size: tuple[int, int], *, bits: int, colors: bytes = b"", compression: int = 0) -> bytes:
    """Return a BMP with the rows `raw`, the lowest first; `size` is height and width, and `colors` hold blue, green, red and 0."""
    head = struct.pack("<IiiHHIIiiII", 40, size[1], size[0], 1, bits, compression, len(raw), 0, 0, len(colors) // 4, 0)
    start = 14 + len(head) + len(colors)
    return b"BM" + struct.pack("<IHHI", start + len(raw), 0, 0, start) + head + colors + raw


def gif(indices: Sequence[int], *, colors: bytes, canvas: int = 0) -> bytes:
    """Return a GIF of one row with 2 or 4 colors; `canvas` is the width of the picture if its frame covers only the left part."""
    # Code 4 clears the table and code 5 ends the data: cleared after every index, the table keeps codes of 3 bits.
    codes = [4, *(code for index in indices for code in (index, 4)), 5]
    packed = sum(code << 3 * at for at, code in enumerate(codes)).to_bytes(-(-3 * len(codes) // 8), "little")
    head = struct.pack("<HHBBB", canvas or len(indices), 1, 0x80 | len(colors) // 6 - 1, 0, 0)
    frame = b"," + struct.pack("<HHHHBB", 0, 0, len(indices), 1, 0, 2) + bytes([len(packed)]) + packed + b"\0"
    return b"GIF89a" + head + colors + frame + b";"
