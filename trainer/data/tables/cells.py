"""The kinds of texts in the cells of a table: numbers in several notations, dates, text."""

from __future__ import annotations

import re
from typing import Final

MISSING: Final = frozenset({"", "na", "n/a", "#n/a", "null", "nan", "?"})
"""Spellings of a missing value, in lower case."""

_WHOLE: Final = r"[+-]?(?:0|[1-9]\d*)"
_KINDS: Final = {
    "whole": _WHOLE,
    "dot3": r"[+-]?[1-9]\d{0,2}\.\d{3}",
    "comma3": r"[+-]?[1-9]\d{0,2},\d{3}",
    "dotted": rf"(?:{_WHOLE})?\.\d+(?:[eE][+-]?\d+)?|{_WHOLE}\.?(?:[eE][+-]?\d+)?|[+-]\.\d+",
    "comma": rf"{_WHOLE},\d+(?:[eE][+-]?\d+)?",
    "padded": r"0\d+",
    "grouped,": r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?",
    "grouped.": r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?",
    "grouped ": r"[+-]?[1-9]\d{0,2}(?:[ \u00a0\u202f']\d{3})+(?:[.,]\d+)?",
    "date": r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?",
    "day": r"\d{1,2}(?P<separator>[./-])\d{1,2}(?P=separator)(?:\d{4}|\d\d)(?: \d\d?:\d\d(?::\d\d)?)?",
    "amount": r"[+-]?[$€£¥]\s?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*\s?[%$€£¥]",
}
_GROUPS: Final = {name: f"k{number}" for number, name in enumerate(_KINDS)}
_NAMES: Final = {group: name for name, group in _GROUPS.items()}
_ANY: Final = re.compile("|".join(f"(?P<{_GROUPS[name]}>{pattern})" for name, pattern in _KINDS.items()), re.ASCII)

PLAIN: Final = frozenset({"whole", "dotted", "dot3"})
"""Numbers with a decimal point, or whole."""
WITH_COMMA: Final = frozenset({"whole", "comma", "comma3"})
"""Numbers with a decimal comma, or whole."""
GROUPED: Final = frozenset({"grouped,", "grouped.", "grouped "})
"""Numbers with separators of thousands."""
NUMERIC: Final = PLAIN | WITH_COMMA | GROUPED


def kind_of(cell: str) -> str:
    """Return the kind of a cell that has no blanks around it and is not missing; `text` for anything else.

    >>> [kind_of(cell) for cell in ("12", "0012", "1.5", "1,5", "1,234", "1,234.5", "2024-02-03", "3.2.2024", "5 %", "a")]
    ['whole', 'padded', 'dotted', 'comma', 'comma3', 'grouped,', 'date', 'day', 'amount', 'text']
    """
    found = _ANY.fullmatch(cell)
    return "text" if found is None else _NAMES[str(found.lastgroup)]


def number_of(cell: str, *, decimal: str, thousands: str) -> float:
    """Return the number that a cell spells. Raises `ValueError`."""
    plain = cell.replace(thousands, "") if thousands else cell
    return float(plain.replace(",", ".") if decimal == "," else plain)
