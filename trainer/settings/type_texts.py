"""Describe setting types in plain words: what is expected, and an example of how to type it.

Pydantic's own messages are never shown. Each type that a document can hold has a description here; any other type is shown by name.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from types import NoneType
from typing import Any, Final, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import AnyUrl, SecretBytes, SecretStr

from trainer.settings.type_kinds import choices, has_keys, is_list, is_table, keys_of, members

_TYPE_TEXTS: Final[tuple[tuple[type, str, str, str], ...]] = (
    (int, "an integer", "integers", "8"),
    (float, "a number", "numbers", "0.5"),
    (Decimal, "a decimal number", "decimal numbers", "0.5"),
    (complex, "a complex number (1+2j)", "complex numbers", "1+2j"),
    (str, "a string", "strings", "a"),
    (SecretStr, "a string", "strings", "a"),
    (bytes, "a string", "strings", "a"),
    (SecretBytes, "a string", "strings", "a"),
    (datetime, "a date and time (2026-01-31T08:00:00)", "dates with times", "2026-01-31T08:00:00"),
    (date, "a date (2026-01-31)", "dates", "2026-01-31"),
    (time, "a time (08:00:00)", "times", "08:00:00"),
    (timedelta, "a duration (PT90S)", "durations", "PT90S"),
    (PurePath, "a path", "paths", "folder/file"),
    (UUID, "a UUID", "UUIDs", "12345678-1234-5678-1234-567812345678"),
    (AnyUrl, "a URL", "URLs", "https://example.org"),
)
"""A type, its singular, its plural, and an example of its text; the first match is used."""
_SPECIAL_TYPES: Final[dict[Any, tuple[str, ...]]] = {
    NoneType: ("none",),
    bool: ("true", "false"),
    Any: ("any value",),
    object: ("any value",),
}
_LIMIT: Final = 12
"""Maximum number of choices that a message lists."""


def expected(annotation: Any) -> str:
    """Describe a value of this type.

    >>> expected(list[int]), expected(tuple[int, float]), expected(tuple[float, float])
    ('a list of integers', 'a list of an integer and a number', 'a list of 2 numbers')
    >>> expected(bool | int | None), expected(dict[str, bool]), expected(set[str])
    ('true, false, an integer or none', 'a table in which each value is true or false', 'a list of strings, each once')
    """
    return _joined(_alternatives(annotation))


def example(annotation: Any) -> str | None:
    """Return an example of this type as it is typed on a command line; `None` if the type has no example.

    >>> example(list[int]), example(tuple[float, float]), example(dict[str, int]), example(int | None)
    ('[8, 16]', '[0.5, 0.25]', '{"a": 8}', '8')
    """
    value = _example(annotation, 0)
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value)


def is_compound(annotation: Any) -> bool:
    """Return whether a value of this type is written with brackets."""
    return any(is_list(kind) or is_table(kind) for kind in members(annotation))


def _alternatives(annotation: Any) -> list[str]:
    """Return the alternatives of a type, without those that another alternative includes: an integer is a number."""
    kinds = members(annotation)
    texts = [word for kind in kinds for word in _one(kind)]
    redundant = {_TYPE_TEXTS[0][1]} if float in kinds else set()
    return [word for number, word in enumerate(texts) if word not in texts[:number] and word not in redundant]


def _one(kind: Any) -> list[str]:
    if (listed := choices(kind)) is not None:
        return [_choice_text(choice) for choice in listed]
    if is_table(kind) or is_list(kind):
        return [_table(kind) if is_table(kind) else _list(kind)]
    if special := _SPECIAL_TYPES.get(kind):
        return list(special)
    texts = _type_text(kind)
    return [texts[1] if texts else f"a value of type {getattr(kind, '__name__', str(kind))}"]


def _table(kind: Any) -> str:
    inner = get_args(kind)
    if has_keys(kind):
        return f"a table with {_keys(kind)}" if keys_of(kind) else "an empty table"
    if len(inner) != 2:  # noqa: PLR2004 - key and value
        return "a table"
    named = {*members(inner[0])} <= {str, Any}
    return (
        f"a table{_of_type(inner[1])}{'' if named else f' whose keys are {_plural_of(inner[0]) or expected(inner[0])}'}"
    )


def _keys(kind: Any) -> str:
    texts = [
        f"{key.name} ({_briefly(key.annotation)}{'' if key.is_required else '; may be left out'})"
        for key in keys_of(kind)
    ]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def _briefly(annotation: Any) -> str:
    """Describe a type without the keys of nested tables: such types can be recursive."""
    kinds = members(annotation)
    if not any(map(_holds_keys, kinds)):
        return expected(annotation)
    return _joined([word for kind in kinds for word in ([_kind_only(kind)] if _holds_keys(kind) else _one(kind))])


def _holds_keys(kind: Any) -> bool:
    return has_keys(kind) or any(_holds_keys(each) for inner in get_args(kind) for each in members(inner))


def _kind_only(kind: Any) -> str:
    return "a table" if is_table(kind) else "a list" if is_list(kind) else _one(kind)[0]


def _list(kind: Any) -> str:
    if (values := _values(kind)) is not None:
        return _fixed_length(values) if values else "an empty list"
    inner = get_args(kind)
    once = ", each once" if issubclass(get_origin(kind) or kind, set | frozenset) else ""
    return f"a list{_of_type(inner[0]) if inner else ''}{once}"


def _values(kind: Any) -> tuple[Any, ...] | None:
    """Return the types of a list's values if their number is fixed; otherwise `None`."""
    if named := getattr(kind, "_fields", ()):
        return tuple(get_type_hints(kind)[name] for name in named)
    inner = get_args(kind)
    is_fixed = kind == tuple[()] or (get_origin(kind) is tuple and inner[-1] is not ...)
    return inner if is_fixed else None


def _fixed_length(inner: tuple[Any, ...]) -> str:
    if len({expected(each) for each in inner}) == 1:
        plural = _plural_of(inner[0])
        each = f"{len(inner)} {plural}" if plural else f"{len(inner)} values, each {expected(inner[0])}"
        return f"a list of {each}" if len(inner) > 1 else f"a list of {expected(inner[0])}"
    texts = [expected(each) for each in inner]
    return f"a list of {', '.join(texts[:-1])} and {texts[-1]}"


def _of_type(annotation: Any) -> str:
    if members(annotation) == [Any]:
        return ""
    plural = _plural_of(annotation)
    return f" of {plural}" if plural else f" in which each value is {expected(annotation)}"


def _plural_of(annotation: Any) -> str | None:
    kinds = members(annotation)
    if len(kinds) != 1 or choices(kinds[0]) is not None or kinds[0] is bool:
        return None
    if is_table(kinds[0]) or is_list(kinds[0]):
        return _plural(_one(kinds[0])[0])
    texts = _type_text(kinds[0])
    return texts[2] if texts else None


def _plural(text: str) -> str | None:
    """Return the plural of a list or a table; only the first noun changes."""
    for one, many in (("a list", "lists"), ("a table", "tables"), ("an empty list", "empty lists")):
        if text.startswith(one):
            return many + text.removeprefix(one)
    return None


def _joined(texts: list[str]) -> str:
    listed = texts if len(texts) <= _LIMIT else [*texts[: _LIMIT - 1], f"one of {len(texts) - _LIMIT + 1} others"]
    return " or ".join(filter(None, (", ".join(listed[:-1]), listed[-1])))


def _choice_text(choice: object) -> str:
    return str(choice).lower() if isinstance(choice, bool) else repr(choice)


def _type_text(kind: Any) -> tuple[type, str, str, str] | None:
    if not isinstance(kind, type) or get_origin(kind) is not None:
        return None
    return next((texts for texts in _TYPE_TEXTS if issubclass(kind, texts[0])), None)


def _example(annotation: Any, index: int) -> Any:
    kind = next((each for each in members(annotation) if each is not NoneType), None)
    if listed := choices(kind):
        return listed[min(index, len(listed) - 1)]
    if is_table(kind):
        return _example_table(kind)
    if not is_list(kind):
        return _leaf(kind, index)
    kinds = _values(kind)
    item_kinds = [get_args(kind)[0] if get_args(kind) else int] * 2 if kinds is None else kinds
    values = [_example(each, number) for number, each in enumerate(item_kinds)]
    is_repeated = kinds is None and values[0] == values[1]
    return None if None in values else values[:1] if is_repeated else values


def _example_table(kind: Any) -> dict[str, Any] | None:
    if has_keys(kind):
        keys = keys_of(kind)
        example_keys = [key for key in keys if key.is_required] or keys[:1]
        values = {
            key.name: None if _holds_keys(key.annotation) else _example(key.annotation, 0) for key in example_keys
        }
    else:
        key_type, value_type = get_args(kind) if len(get_args(kind)) == 2 else (str, int)  # noqa: PLR2004 - key and value
        values = {str(_example(key_type, 0) or "a"): _example(value_type, 0)}
    return None if not values or None in values.values() else values


def _leaf(kind: Any, index: int) -> Any:
    if kind is bool:
        return index % 2 == 0
    if kind is Any:
        return 8
    texts = _type_text(kind)
    if texts is None:
        return None
    if texts[0] is int:
        return 8 * (index + 1)
    if texts[0] in {float, Decimal}:
        return 0.5 / (index + 1)
    return "ab"[index % 2] if texts[3] == "a" else texts[3]
