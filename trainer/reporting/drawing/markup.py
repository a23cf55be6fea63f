"""Build HTML and SVG from untrusted text and pictures: all plain text is escaped, and each PNG is checked before it is embedded.

A string is inserted unescaped only if it is `Markup`, since the names, settings and figures of a record are untrusted. The structure of a
PNG is checked (ISO/IEC 15948, clause 5): signature, chunks with their checksums, sizes. The pixels are not decoded.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from bisect import bisect_right
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Final
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WIDE: Final = 1.875
"""The width of a wide letter relative to an average letter of a system font: 12 pixels to 6.4."""
_LONGEST: Final = 4
"""The number of letters that `cut` examines per letter that may be shown, since some letters have no width."""
_VOID: Final = frozenset({"br", "col", "hr", "img", "link", "meta"})


class Markup(str):
    """Text that is already markup: created by `tag`, `joined` or `escaped`, or a constant in this package."""

    __slots__ = ()


def tag(name: str, /, *inner: object, **attributes: object) -> Markup:
    """Return an element; `class_` becomes `class`, and `aria_label` becomes `aria-label`. Values that are None or False are omitted.

    >>> tag("p", "1 < 2 & ", tag("b", "so"), class_="x", title='"', hidden=False)
    '<p class="x" title="&quot;">1 &lt; 2 &amp; <b>so</b></p>'
    """
    start_tag = f"<{name}{''.join(_attribute(*item) for item in attributes.items())}>"
    return Markup(start_tag if name in _VOID else f"{start_tag}{joined(inner)}</{name}>")


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Join parts, each escaped unless it is markup; None is omitted."""
    return Markup(escaped(between).join(escaped(part) for part in parts if part is not None))


def escaped(value: object) -> Markup:
    r"""Return a value as text for a page: escaped, with floats rounded and unprintable characters (bidirectional controls) as codes.

    >>> escaped("<b>\x00"), escaped(0.1 + 0.2)
    ('&lt;b&gt;\\x00', '0.3')
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, float):
        return Markup(f"{value:.6g}")
    text = "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in str(value))
    return Markup(escape(text))


def width_of(text: str) -> float:
    """Return the width of a text in letters of average width; a wide East Asian letter is as wide as its font is high.

    >>> width_of("abc"), width_of("고양이")
    (3.0, 5.625)
    """
    return sum(_WIDE if east_asian_width(letter) in "WF" else 0.0 if combining(letter) else 1.0 for letter in text)


def cut(text: str, most: float) -> str:
    """Shorten a text to at most `most` letters of average width.

    >>> cut("accuracy", 5), cut("고양이고양이", 5)
    ('accu…', '고양…')
    """
    widths = list(accumulate(map(width_of, text[: _LONGEST * (int(most) + 1)])))
    if len(widths) == len(text) and (not text or widths[-1] <= most):
        return text
    return f"{text[: bisect_right(widths, most - 1)]}…"


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    spelled = name.rstrip("_").replace("_", "-")
    return f" {spelled}" if value is True else f' {spelled}="{_short(value)}"'


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escaped(value)


LARGEST: Final = 2 << 20
"""The maximum size of a picture in bytes."""
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_SIDE: Final = 8192
"""The maximum width and height in pixels."""
_ALLOWED: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"cHRM", b"pHYs", b"IDAT", b"IEND"})
"""The kinds of chunks that are allowed; a page does not need chunks with text or profiles."""


def is_png(data: bytes) -> bool:
    """Return whether the data is a PNG of reasonable size, from IHDR to IEND, with only intact chunks of allowed kinds."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13 or chunks[-1][0] != b"IEND":  # noqa: PLR2004 - the length of IHDR
        return False
    width, height = (int.from_bytes(chunks[0][1][at : at + 4], "big") for at in (0, 4))
    kinds = {kind for kind, _ in chunks}
    return 0 < width <= _SIDE and 0 < height <= _SIDE and b"IDAT" in kinds and kinds <= _ALLOWED


def embedded(data: bytes, *, description: str) -> Markup | None:
    """Return an image element with the picture as a data URL; `None` if it is not a PNG or is too large."""
    if len(data) > LARGEST or not is_png(data):
        return None
    return tag("img", src=f"data:image/png;base64,{b64encode(data).decode()}", alt=description)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each chunk, but nothing if a chunk is damaged or data follows the last chunk."""
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
