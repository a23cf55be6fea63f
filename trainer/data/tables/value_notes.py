"""Notes about the values of a planned table: removed whitespace, values read as missing, and values that look the same or damaged."""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted, listed, short

if TYPE_CHECKING:
    from collections.abc import Iterator

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
