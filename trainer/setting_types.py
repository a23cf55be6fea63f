"""Types of settings in a user's words: what is expected, and an example of how it is typed.

No validator's own words reach a user. Each type that pydantic has for a value of a document has its words here; another type is called
by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin
from uuid import UUID

from pydantic import SecretStr

from trainer.setting_values import members

_WORDS: Final[tuple[tuple[type, str, str, str], ...]] = (
    (bool, "true or false", "truth values", "true"),
    (int, "a whole number", "whole numbers", "8"),
    (float, "a number", "numbers", "0.5"),
    (Decimal, "a number", "numbers", "0.5"),
    (complex, "a complex number, as 1+2j", "complex numbers", "1+2j"),
    (str, "text", "texts", "a"),
    (SecretStr, "text", "texts", "a"),
    (bytes, "text", "texts", "a"),
    (datetime, "a date and time, as 2026-01-31T08:00:00", "dates with times", "2026-01-31T08:00:00"),
    (date, "a date, as 2026-01-31", "dates", "2026-01-31"),
    (time, "a time, as 08:00:00", "times", "08:00:00"),
    (timedelta, "a duration, as PT90S", "durations", "PT90S"),
    (PurePath, "a path", "paths", "a"),
    (UUID, "a UUID", "UUIDs", "12345678-1234-5678-1234-567812345678"),
)
"""A type, one of it, many of it, an example of its text; the first that fits counts."""
_MOST: Final = 12
"""Choices that a message lists."""


def expected(annotation: Any) -> str:
    """Say what a value of this type is.

    >>> expected(list[int]), expected(Literal[1, 2, 3]), expected(tuple[int, float])
    ('a list of whole numbers', '1, 2 or 3', 'a list of 2: a whole number, a number')
    >>> expected(int | None), expected(dict[str, bool]), expected(set[Literal["a", "b"]])
    ('a whole number or none', 'a table of truth values', "a list of values among 'a' or 'b'")
    """
    return _joined([_one(kind) for kind in members(annotation)])


def example(annotation: Any) -> str | None:
    """Give a text of this type as it is typed on a command line; `None` if only its author knows.

    >>> example(list[int]), example(tuple[float, float]), example(dict[str, int]), example(int | None)
    ('[8, 16]', '[0.5, 0.25]', '{"a": 8}', '8')
    """
    value = _example(annotation, 0)
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value)


def is_compound(annotation: Any) -> bool:
    """Tell whether a value of this type is written with brackets."""
    return any(_is_list(kind) or _is_table(kind) for kind in members(annotation))


def _one(kind: Any) -> str:
    inner = get_args(kind)
    if kind is NoneType:
        return "none"
    if choices := _choices(kind):
        return _joined(choices)
    if _is_table(kind):
        return f"a table of {_many(inner[1])}" if len(inner) == 2 else "a table"  # noqa: PLR2004 - key and value
    if get_origin(kind) is tuple and inner and inner[-1] is not ...:
        return f"a list of {len(inner)}: {', '.join(expected(each) for each in inner)}"
    if _is_list(kind):
        return f"a list of {_many(inner[0])}" if inner else "a list"
    found = _words(kind)
    return found[1] if found else f"a value of type {getattr(kind, '__name__', str(kind))}"


def _many(annotation: Any) -> str:
    kinds = members(annotation)
    if len(kinds) == 1 and (found := _words(kinds[0])) and not _choices(kinds[0]):
        return found[2]
    if len(kinds) == 1 and kinds[0] is Any:
        return "values"
    if len(kinds) == 1 and (_is_list(kinds[0]) or _is_table(kinds[0])):
        return ("lists" if _is_list(kinds[0]) else "tables") + _one(kinds[0]).removeprefix("a list").removeprefix(
            "a table"
        )
    return f"values among {expected(annotation)}"


def _joined(words: list[str]) -> str:
    shown = words if len(words) <= _MOST else [*words[: _MOST - 1], f"one of {len(words) - _MOST + 1} others"]
    return " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _choices(kind: Any) -> list[str]:
    """The values of a `Literal` or an enumeration, as a message shows them."""
    if get_origin(kind) is Literal:
        return [_shown(choice) for choice in get_args(kind)]
    return [_shown(each.value) for each in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _shown(choice: object) -> str:
    return str(choice).lower() if isinstance(choice, bool) else repr(choice)


def _words(kind: Any) -> tuple[type, str, str, str] | None:
    if not isinstance(kind, type) or get_origin(kind) is not None:
        return None
    return next((found for found in _WORDS if issubclass(kind, found[0])), None)


def _base(kind: Any) -> Any:
    return get_origin(kind) or kind


def _is_table(kind: Any) -> bool:
    base = _base(kind)
    if not isinstance(base, type):
        return False
    return issubclass(base, Mapping) or hasattr(base, "__pydantic_fields__") or hasattr(base, "__required_keys__")


def _is_list(kind: Any) -> bool:
    base = _base(kind)
    if not isinstance(base, type) or issubclass(base, str | bytes):
        return False
    return issubclass(base, Sequence | set | frozenset) or base.__module__ == "collections.abc"


def _example(annotation: Any, place: int) -> Any:
    """A value of this type; `place` lets the items of a list differ."""
    kind = next((each for each in members(annotation) if each is not NoneType), None)
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return inner[min(place, len(inner) - 1)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(each.value for each in kind)
    if _is_table(kind):
        value = _example(inner[1], 0) if len(inner) == 2 else None  # noqa: PLR2004 - key and value
        return None if value is None else {"a": value}
    if _is_list(kind):
        kinds = inner if get_origin(kind) is tuple and inner and inner[-1] is not ... else [*inner[:1]] * 2
        values = [_example(each, at) for at, each in enumerate(kinds)]
        return None if not values or None in values else values
    return _leaf(kind, place)


def _leaf(kind: Any, place: int) -> Any:
    found = _words(kind)
    if found is None:
        return None
    if found[0] is bool:
        return place % 2 == 0
    if found[0] is int:
        return 8 * (place + 1)
    if found[0] in {float, Decimal}:
        return 0.5 / (place + 1)
    return "ab"[place % 2] if found[3] == "a" else found[3]
