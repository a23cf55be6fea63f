"""The kinds of cells in a table: numbers in several notations, dates, and text."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

MISSING: Final = frozenset({"", "na", "n/a", "#n/a", "null", "nan", "?", r"\n"})
"""Spellings of a missing value, in lower case; `\\N` is written by databases."""

_WHOLE: Final = r"[+-]?(?:0|[1-9]\d*)"
_SIGNS: Final = "\u2010-\u2015\u2212\ufe58\ufe63\uff0d\uff0b"
"""Minus signs, hyphens and dashes that are not `-`, and the wide plus."""
_DIGITS: Final = "\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\uff10-\uff19"
"""Arabic, Persian, Devanagari and wide digits."""
SPACES: Final = (" ", "\u00a0", "\u202f", "'")
"""Thousands separators other than the decimal signs."""
_KINDS: Final = {
    "padded": r"0\d+|\+\d{7,}",
    "whole": _WHOLE,
    "dot3": r"[+-]?[1-9]\d{0,2}\.\d{3}",
    "comma3": r"[+-]?[1-9]\d{0,2},\d{3}",
    "power": r"[+-]?[1-9]\d*[eE]\d+",
    "dotted": rf"(?:{_WHOLE})?\.\d+(?:[eE][+-]?\d+)?|{_WHOLE}\.?(?:[eE][+-]?\d+)?|[+-]\.\d+",
    "comma": rf"{_WHOLE},\d+(?:[eE][+-]?\d+)?",
    "grouped,": r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?",
    "grouped.": r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?",
    "grouped": rf"[+-]?[1-9]\d{{0,2}}(?P<mark>[{''.join(SPACES)}])\d{{3}}(?:(?P=mark)\d{{3}})*(?:(?P<sign>[.,])\d+)?",
    "date": r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?",
    "zoned": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)? ?(?:Z|[+-]\d\d:?\d\d)",
    "day": r"\d{1,2}(?P<separator>[./-])\d{1,2}(?P=separator)(?:\d{4}|\d\d)(?: \d\d?:\d\d(?::\d\d)?)?",
    "amount": r"[+-]?[$€£¥]\s?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*\s?[%$€£¥]|\(\d[\d.,]*\)",
    "foreign": rf"(?=.*[{_SIGNS}{_DIGITS}])[+-]?[{_SIGNS}]?[\d{_DIGITS}][\d{_DIGITS}.,\u066b\u066c]*",
    "error": r"#(?:DIV/0!|VALUE!|REF!|NUM!|NAME\?|NULL!)",
}
_GROUPS: Final = {name: f"k{number}" for number, name in enumerate(_KINDS)}
_NAMES: Final = {group: name for name, group in _GROUPS.items()}
_ANY: Final = re.compile("|".join(f"(?P<{_GROUPS[name]}>{pattern})" for name, pattern in _KINDS.items()), re.ASCII)

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
"""Control characters except tabs and line ends, and a byte order mark: a text with such a character was decoded wrongly."""

PLAIN: Final = frozenset({"whole", "dotted", "dot3", "power"})
"""Whole numbers, and numbers with a decimal point."""
WITH_COMMA: Final = frozenset({"whole", "comma", "comma3", "power"})
"""Whole numbers, and numbers with a decimal comma."""
GROUPED: Final = frozenset(
    {"grouped,", "grouped.", *(f"grouped{mark}{sign}" for mark in SPACES for sign in ("", ".", ","))}
)
"""Numbers with thousands separators: `grouped `, and `grouped .` if the number has a decimal sign; `grouped,` may have a point."""
NUMERIC: Final = PLAIN | WITH_COMMA | GROUPED


def kind_of(cell: str) -> str:
    """Return the kind of a cell that has no whitespace around it and is not missing; `text` if no other kind matches.

    A number with another minus sign or other digits than those of ASCII is `foreign`.

    >>> [kind_of(cell) for cell in ("12", "0012", "1.5", "1e5", "1,5", "1,234", "1,234.5", "2024-02-03", "3.2.2024", "5 %", "a")]
    ['whole', 'padded', 'dotted', 'power', 'comma', 'comma3', 'grouped,', 'date', 'day', 'amount', 'text']
    """
    found = _ANY.fullmatch(cell)
    if found is None:
        return "control" if _CONTROL.search(cell) else "text"
    name = _NAMES[str(found.lastgroup)]
    return f"grouped{found['mark']}{found['sign'] or ''}" if name == "grouped" else name


_MARKS: Final = ",.' \u00a0\u202f"
_WHOLE_VALUE: Final = re.compile(
    rf"(?P<whole>[+-]?(?:[1-9]\d{{0,2}}(?:(?P<mark>[{_MARKS}])\d{{3}}(?:(?P=mark)\d{{3}})*)?|\d+))(?:[.,]0*)?", re.ASCII
)


def whole_of(cell: str) -> int | None:
    """Return the whole number that a numeric cell spells in any notation; `None` if it has a fraction or an exponent.

    One group of three digits may be a fraction: then the result is at most a thousand times the number.

    >>> [whole_of(cell) for cell in ("12", "-12.0", "12,00", "1,234,567", "1.234.567,00", "12.5", "0.125", "1e5")]
    [12, -12, 12, 1234567, 1234567, None, None, None]
    """
    found = _WHOLE_VALUE.fullmatch(cell)
    return None if found is None else int(re.sub(rf"[{_MARKS}]", "", found["whole"]))


def number_of(cell: str, *, decimal: str, thousands: str) -> float:
    """Parse the number in a cell. Raise `ValueError` if the cell is not a number, or if the number is too large for 64 bits."""
    plain = cell.replace(thousands, "") if thousands else cell
    number = float(plain.replace(",", ".") if decimal == "," else plain)
    if math.isinf(number):
        raise ValueError("expected a number below 1.8e308")
    return number


def number_text(value: float, *, decimal: str) -> str:
    """Return a number as the text of a cell, without an exponent and exactly as `number_of` parses it.

    >>> number_text(1e-05, decimal=","), number_text(12, decimal=",")
    ('0,00001', '12')
    """
    return format(Decimal(repr(value)), "f").replace(".", decimal)
