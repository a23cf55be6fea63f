"""Candidate values of a text from the command line or the environment, for a setting's type.

A text has the value that it has in a settings file if the setting's type accepts that value; otherwise it is the text itself. If the
text has the form of another type of a union, it is not a plain text: 5.0 is rejected for `int | str`, and "5.0" in quotes is accepted.
"""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretBytes, SecretStr

from trainer.base.document import read_number
from trainer.settings.type_kinds import choices, is_list, is_table, members

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_NULLS: Final = frozenset({"none", "null"})
_FLAGS: Final = {"true": True, "false": False}
_NUMBER: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")
"""Number forms that Python accepts, and JSON and TOML do not: `.5`, `5.`, `+.5`."""
_TYPED_NUMBER: Final = re.compile(r"[+-]?(?=\.?\d)(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?")
_TEXTS: Final = (str, bytes, PurePath, SecretStr, SecretBytes, Decimal)
"""Types that use a text exactly as typed, including quotes and digits."""
_NOTHING: Final = object()


class RepeatedKeyError(ValueError):
    """A JSON object with a repeated key."""

    def __init__(self, key: str) -> None:
        """Store the key."""
        super().__init__(key)
        self.key = key


def candidates(info: FieldInfo, text: str) -> list[Any]:
    """Return the candidate values of a text, in order of priority; `none` is null unless it is one of the setting's own texts."""
    kinds = members(info.annotation)
    own = text_choices(info.annotation)
    null = [None] if text.lower() in _NULLS and type(None) in kinds and text not in own else []
    parsed = [value] if (value := read_text(text)) is not _NOTHING else []
    if takes_texts(kinds):
        return [*null, text, *parsed]
    is_other = text not in own and _form(text, value) in {form for kind in kinds for form in _forms(kind)}
    return [*null, *parsed, *([] if is_other else [text])]


def text_choices(annotation: Any) -> list[str]:
    """Return the texts among the choices of a type."""
    return [choice for kind in members(annotation) for choice in choices(kind) or () if isinstance(choice, str)]


def takes_texts(kinds: list[Any]) -> bool:
    """Return whether all of these types, except `None`, use a text exactly as typed."""
    return all(_takes_text(kind) for kind in kinds if kind is not type(None))


def _takes_text(kind: Any) -> bool:
    if (listed := choices(kind)) is not None:
        return all(isinstance(choice, str) for choice in listed)
    return isinstance(kind, type) and issubclass(kind, _TEXTS)


def _form(text: str, read: Any) -> str | None:
    """Return the form of a text: truth value, number, list or table; `None` if it is only a text."""
    if read is not _NOTHING and not isinstance(read, RepeatedKeyError):
        return _form_of(read)
    return "number" if _TYPED_NUMBER.fullmatch(text) else {"[": "list", "{": "table"}.get(text.strip()[:1])


def _form_of(value: Any) -> str | None:
    kinds = ((bool, "flag"), (int | float, "number"), (list, "list"), (dict, "table"))
    return next((form for kind, form in kinds if isinstance(value, kind)), None)


def _forms(kind: Any) -> set[str | None]:
    if (listed := choices(kind)) is not None:
        return {_form_of(choice) for choice in listed} - {None}
    if is_list(kind) or is_table(kind):
        return {"list" if is_list(kind) else "table"}
    if isinstance(kind, type) and issubclass(kind, int | float | complex | Decimal):
        return {"flag" if kind is bool else "number"}
    return set()


def read_text(text: str) -> Any:
    """Parse a text as JSON, else as TOML, else as a Python number; `true` and `false` in any case.

    A table with a repeated key is returned as a `RepeatedKeyError`.
    """
    if text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    with suppress(ValueError, RecursionError):
        try:
            return json.loads(text, parse_float=read_number, object_pairs_hook=_once)
        except RepeatedKeyError as repeated:
            return repeated
    if "\n" not in text and "\r" not in text:
        with suppress(ValueError, RecursionError):
            document = tomllib.loads(f"value = {text}", parse_float=read_number)
            if document.keys() == {"value"} and not isinstance(document["value"], date | time):
                return document["value"]
    with suppress(ValueError):
        if _NUMBER.fullmatch(text):
            return read_number(text)
    return _NOTHING


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dict from the pairs of a JSON object. A repeated key is an error, as in TOML; JSON allows it."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise RepeatedKeyError(key)
        table[key] = value
    return table
