"""The rows of a JSON lines file as columns of strings: each line is an object whose values are numbers, strings, booleans or null."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError
from trainer.base.json_faults import json_fault
from trainer.base.suggestions import short
from trainer.data.tables.text_rows import ROWS, TextBlock, decoding_fault, open_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST: Final = 1 << 24
"""Maximum number of characters of a line."""
_WORDS: Final[dict[Any, str]] = {None: "", True: "true", False: "false"}


class Number(str):
    """A number in its original spelling."""

    __slots__ = ()


def json_columns(path: Path) -> tuple[list[str], frozenset[str]]:
    """Return the keys of all objects in the order of their first use, and the keys whose values are strings.

    Raise `DatasetError` with the line if a value is not a number, string, boolean or null, or if a column has values of two types.
    """
    kinds: dict[str, str] = {}
    for line, row in _objects(path):
        for name, value in row.items():
            kind = "" if value is None else "a number" if isinstance(value, Number) else "a string"
            kind = "true or false" if isinstance(value, bool) else kind
            known = kinds.setdefault(name, kind)
            if kind and known and kind != known:
                message = f"{path.name}, line {line}, column {name!r}: {short(str(value))!r} is {kind}; earlier lines have {known}"
                raise DatasetError(message, hint="use one type for all values of the column")
            kinds[name] = known or kind
    if not kinds:
        raise DatasetError(f"{path.name} has no rows", hint="write a JSON object in each line")
    return list(kinds), frozenset(name for name, kind in kinds.items() if kind == "a string")


def json_blocks(path: Path, names: list[str]) -> Iterator[TextBlock]:
    """Yield all rows in blocks of `ROWS`; a missing key and null become empty strings."""
    rows = _objects(path)
    while some := list(islice(rows, ROWS)):
        lines, objects = zip(*some, strict=True)
        cells = [tuple(_text(each.get(name)) for each in objects) for name in names]
        yield TextBlock(lines=list(lines), columns=cells)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _WORDS[value]


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = json.JSONDecoder(
        parse_int=Number, parse_float=Number, parse_constant=_constant, object_pairs_hook=_distinct
    )
    try:
        with open_text(path, "utf-8") as text:
            number = 0
            while line := text.readline(_LONGEST):
                number += 1
                if line.strip():
                    yield number, _object(decoder, line, f"{path.name}, line {number}")
    except UnicodeError as fault:
        raise decoding_fault(path, "utf-8") from fault


def _object(decoder: json.JSONDecoder, line: str, where: str) -> dict[str, Any]:
    try:
        row = decoder.decode(line.rstrip("\r\n"))
    except RecursionError as fault:
        raise DatasetError(f"{where} has too many nested brackets", hint="write one object in each line") from fault
    except ValueError as fault:
        message = f"{where} is not a JSON object: {json_fault(fault, is_line=True)}"
        raise DatasetError(message, hint="write one object in each line") from fault
    if not isinstance(row, dict):
        raise DatasetError(
            f"{where} is not a JSON object", hint='write one object in each line: {"age": 31, "plan": "a"}'
        )
    if broken := next((name for name, value in row.items() if _is_broken(name) or _is_broken(value)), None):
        message = f"{where}, column {broken!a}: half of a surrogate pair, which is not a character"
        raise DatasetError(message, hint="write the line again, with whole characters")
    if nested := next((name for name, value in row.items() if isinstance(value, dict | list)), None):
        message = f"{where}, column {nested!r}: expected one value, found several"
        raise DatasetError(message, hint="write each of its values under a separate key")
    return row


def _is_broken(value: Any) -> bool:
    """Return whether a value is a string with a surrogate, which UTF-8 cannot encode."""
    if not isinstance(value, str) or value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def _constant(word: str) -> None:
    if word != "NaN":
        raise ValueError(f"{word} is not a JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key occurs twice")
    return row
