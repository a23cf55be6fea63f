"""Markup that cannot be broken out of: tags of HTML and SVG, with every plain text escaped on its way in.

Knows tags and attributes. Refuses to let a string through as markup that no tag made: names, settings and figures of a record are a
stranger's text.
"""

from __future__ import annotations

from bisect import bisect_right
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Final
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDE: Final = 1.875
"""Average letters of a system's font beside one wide letter: 12 pixels beside 6.4."""
_LONGEST: Final = 4
"""Letters of a text that are looked at for each that may be shown: some have no width."""
_VOID: Final = frozenset({"br", "col", "hr", "img", "link", "meta"})


class Markup(str):
    """Text that is markup already: made by `tag`, `joined` or a constant of our own."""

    __slots__ = ()


def tag(name: str, /, *inner: object, **attributes: object) -> Markup:
    """Give an element; `class_` is `class`, `aria_label` is `aria-label`; what is None or False is left out.

    >>> tag("p", "1 < 2 & ", tag("b", "so"), class_="x", title='"', hidden=False)
    '<p class="x" title="&quot;">1 &lt; 2 &amp; <b>so</b></p>'
    """
    begun = f"<{name}{''.join(_attribute(*item) for item in attributes.items())}>"
    return Markup(begun if name in _VOID else f"{begun}{joined(inner)}</{name}>")


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Give several parts in a row, each escaped where it is no markup; those that are None are left out."""
    return Markup(escaped(between).join(escaped(part) for part in parts if part is not None))


def escaped(value: object) -> Markup:
    r"""Give a value as text of a page: escaped, numbers short, and what is no letter, as an order to turn the line around, written out.

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
    """Measure a text in letters of average width; an East Asian wide letter is as wide as its font is high.

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
