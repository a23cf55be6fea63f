"""Detection of the format of a file that cannot be decoded as a picture, by its first bytes, with a hint for each format."""

from __future__ import annotations

import codecs
import re
from typing import Final

REPLACE: Final = "replace it, or leave it out, and publish a new version"
_START: Final = 512
"""Bytes of a file that are examined."""
_CONVERT: Final = "write it as PNG or JPEG, and publish a new version"
_KNOWN: Final = (
    (rb"version https://git-lfs", "a pointer of Git LFS in place of the file", "git lfs pull, then publish again"),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "HEIC or HEIF", _CONVERT),
    (rb"(?i)\s*(<!doctype html|<html)", "a page of HTML", "download the picture itself, and publish a new version"),
    (rb"(?i)(\s|<[?!][^>]*>)*<svg", "SVG, which has no pixels", "draw it as PNG, and publish a new version"),
    (rb".{128}DICM", "DICOM", "write it as 16-bit PNG, or publish arrays (--array)"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript", _CONVERT),
    (rb"%PDF", "PDF", _CONVERT),
    (rb"8BPS", "a file of Photoshop", _CONVERT),
    (rb"\x00\x00\x01\x00", "a Windows icon", _CONVERT),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf", "an archive", "unpack it, and publish a new version"),
    (rb"\x93NUMPY", "an array of NumPy", "publish arrays (--array)"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL", _CONVERT),
    (rb"\x00{64}", "zeros, as a copy leaves that was cut short", REPLACE),
)
"""The first bytes as a pattern, the name of the format, and the hint."""


def found_format(body: memoryview | bytes) -> tuple[str, str]:
    """Return the name of the format and a hint; the name is empty if the format is unknown."""
    start = bytes(body[:_START])
    for mark, name, hint in _KNOWN:
        if re.match(mark, start, re.DOTALL):
            return name, hint
    return ("text" if _is_text(start) else ""), REPLACE


def _is_text(start: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n" for letter in text)
