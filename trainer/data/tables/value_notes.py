"""Notes about the values of a planned table: removed whitespace, missing, rounded, similar or damaged values, and short years."""

from __future__ import annotations

import re
import shlex
import struct
import unicodedata
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from trainer.base.suggestions import counted, listed, short
from trainer.data.tables.convert import conversion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.data.tables.plan import TablePlan


def describe_similar(plan: TablePlan, *, dataset: str) -> Iterator[str]:
    """Yield notes on categories that differ only by case, whitespace, Unicode form or invisible characters, or were decoded wrongly."""
    for each in plan.columns:
        values = each.treatment.values if each.treatment else ()
        folded: dict[str, list[str]] = {}
        for value in values:
            folded.setdefault(_folded(value), []).append(value)
        if same := next((values for values in folded.values() if len(values) > 1), None):
            has_case = len({value.casefold() for value in same}) == 1
            by, shown = ("case", same) if has_case else ("case, whitespace or invisible characters", map(ascii, same))
            yield f"{dataset}: column {each.scan.name!r} has values that differ only by {by}: {listed(shown)}"
        if odd := next((value for value in values if _DAMAGED.search(value)), None):
            reason = "a character was lost" if "\ufffd" in odd else "UTF-8 that was read in another encoding"
            yield f"{dataset}: column {each.scan.name!r} has {short(odd)!r}, which looks as if {reason}"


def _folded(value: str) -> str:
    visible = "".join(each for each in unicodedata.normalize("NFKC", value) if unicodedata.category(each) != "Cf")
    return " ".join(visible.casefold().split())


_DAMAGED: Final = re.compile("\ufffd|[\u00c2\u00c3][\u0080-\u00bf\u0152-\u0192\u2013-\u203a]|\u00e2\u20ac")
"""The replacement character, and two or three bytes of UTF-8 decoded as Latin-1 or cp1252."""


def describe_spellings(plan: TablePlan, *, dataset: str) -> Iterator[str]:
    """Yield notes on words that are read as missing values in columns of text, because a word such as `NA` may be a value."""
    for each in plan.columns:
        words = [word for word in sorted(each.scan.spellings) if word]
        if words and each.source.read in {"category", "class"}:
            option = " ".join(f"--value {shlex.quote(word)}" for word in words)
            names = ", ".join(map(repr, words))
            yield f"{dataset}: column {each.scan.name!r}: {names} is read as a missing value; if it is a value: {option}"


def describe_padding(plan: TablePlan, *, dataset: str) -> Iterator[str]:
    """Yield notes on the whitespace around values, which is removed."""
    for each in plan.columns:
        if each.scan.padded and each.source.read in {"category", "class"}:
            yield f"{dataset}: whitespace around {counted(each.scan.padded, 'value')} of column {each.scan.name!r} is removed"


_KEPT: Final = 0.9
"""The least part of the distinct values of a column that must stay distinct in float32."""


def describe_rounding(plan: TablePlan, *, dataset: str) -> Iterator[str]:
    """Yield notes on numbers and dates of which float32 makes many equal, such as the seconds of a time."""
    for each in plan.columns:
        if each.source.read not in {"number", "date", "target"}:
            continue
        convert = conversion(each.source, decimal=plan.numbers.decimal, thousands=plan.numbers.thousands)
        if convert is None:  # a column without values
            continue
        tried = (_tried(convert, text) for text in each.scan.values or each.scan.first_values)
        numbers = {number for number in tried if number is not None}
        rounded = {_FLOAT32.unpack(_FLOAT32.pack(number)) for number in numbers}
        if len(rounded) < _KEPT * len(numbers):
            first = "the first " if each.scan.values is None else ""
            name, many = each.scan.name, f"{first}{len(numbers):,} distinct values"
            fix = f"write the values as differences from a constant; or --read '{name}=skip'"
            yield f"{dataset}: column {name!r}: float32 rounds {many} to {counted(len(rounded), 'value')}; {fix}"


def describe_years(plan: TablePlan, *, dataset: str) -> Iterator[str]:
    """Yield notes on dates with years of two digits: 45 is 2045, also in a date of birth."""
    for each in plan.columns:
        if each.source.read != "date" or "%y" not in each.source.date:
            continue
        convert = conversion(each.source, decimal=plan.numbers.decimal, thousands=plan.numbers.thousands)
        assert convert is not None  # noqa: S101 - the column is read as dates
        days = ((_tried(convert, text), text) for text in each.scan.values or each.scan.first_values)
        known = [(day, text) for day, text in days if day is not None]
        if known:
            last, text = max(known)
            latest = f"{text} is {(date(1970, 1, 1) + timedelta(days=last)).isoformat()}, the latest"
            name, first = each.scan.name, " of the first dates" if each.scan.values is None else ""
            yield f"{dataset}: column {name!r}: years of two digits are read as 1969 to 2068; {latest}{first}"


_FLOAT32: Final = struct.Struct("<f")
_MOST: Final = 3.4e38
"""About the greatest number that float32 holds."""


def _tried(convert: Callable[[str], Any], text: str) -> float | None:
    """Return the number of a text; `None` if it is not one that float32 holds, which other checks report."""
    try:
        number = float(convert(text))
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < _MOST else None
