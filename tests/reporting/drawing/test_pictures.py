"""A PNG is embedded only if all its chunks are valid."""

from __future__ import annotations

import zlib

import pytest

from trainer.reporting.drawing.markup import LARGEST, embedded, is_png


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(width: int = 1, *extra: bytes, after: bytes = b"") -> bytes:
    """Return a PNG with a single gray pixel; its header may state another width."""
    size = width.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    body = [chunk(b"IHDR", size), *extra, chunk(b"IDAT", zlib.compress(b"\0\x80")), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + after


def test_a_png_is_embedded() -> None:
    assert is_png(png())
    image = embedded(png(), description='"><script>')
    assert image is not None
    assert image.startswith('<img src="data:image/png;base64,')
    assert "<script" not in image


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"<svg onload='alert(1)'/>",
        png()[:-1],
        png().replace(b"IDAT", b"IDAX"),
        png(1 << 20),
        png(0),
        png(1, chunk(b"tEXt", b"Comment\0<script>")),
        png(after=b"<script>"),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IEND"),
    ],
)
def test_an_invalid_png_is_not_shown(data: bytes) -> None:
    assert not is_png(data)
    assert embedded(data, description="x") is None


def test_a_large_png_is_not_shown() -> None:
    data = png(1, chunk(b"PLTE", bytes(LARGEST)))
    assert is_png(data)
    assert embedded(data, description="x") is None
