"""Hints for a setting: the typed value in the form that the type requires, or an example."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from trainer.base.suggestions import nearest
from trainer.settings.fields import Origin
from trainer.settings.texts import read_text, takes_texts, text_choices
from trainer.settings.type_kinds import is_table, members
from trainer.settings.type_texts import example, is_compound
from trainer.settings.values import MisfitError, is_flag, typed_text
from trainer.settings.variables import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_MOST_WHOLE: Final = 10**15
_NOTHING: Final = object()
_FORMS: Final = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false", "": "none"}
"""Common alternative spellings, and the accepted form of each."""


def option(name: str) -> str:
    """Return a setting's option on the command line.

    >>> option("learning_rate")
    '--learning-rate'
    """
    return "--" + name.replace("_", "-")


def how_to_type(name: str, info: FieldInfo, origin: Origin, *, found: object = None) -> str | None:
    """Return how to type a value: `found` in the form of the type, or an example if the form is not obvious; `None` if it is."""
    may_be_none = type(None) in members(info.annotation)
    if is_flag(info) and origin is Origin.COMMAND_LINE:
        return f"write {option(name)} or {option(f'no_{name}')}{f' or {option(name)} none' if may_be_none else ''}"
    if may_be_none and origin is Origin.FILE and found in ("", "none", "None", "null"):
        return f'write "{option(name)}" = "none": TOML has no form for it'
    if texts := _rewritten(info, found, origin):
        return f"write {' or '.join(assigned(name, info, text, origin) for text in texts[:2])}"
    text = example(info.annotation)
    is_plain = info.description and not is_compound(info.annotation)
    if text is None or is_plain or _value(info, text) is _NOTHING:
        return None
    has_table = any(map(is_table, members(info.annotation))) and origin is Origin.COMMAND_LINE
    toml = _as_toml(text) if has_table else text
    toml_form = "" if toml == text else f" or {option(name)} {shlex.quote(toml)}"
    return f"write, for example, {assigned(name, info, text, origin)}{toml_form}"


def assigned(name: str, info: FieldInfo, text: str, origin: Origin) -> str:
    """Return the text that assigns a value to a setting, in the syntax of this origin."""
    match origin:
        case Origin.COMMAND_LINE:
            return f"{option(name)}{'=' if text.startswith('--') else ' '}{shlex.quote(text)}"
        case Origin.ENVIRONMENT:
            return f"{ENVIRONMENT_PREFIX}{name.upper()}={shlex.quote(text)}"
        case Origin.EXPERIMENT | Origin.DEFAULT:
            return f"{name} = {typed_text(info, text)!r}"
        case _:
            return f"{name} = {_as_toml(json.dumps(typed_text(info, text), ensure_ascii=False))}"


def _as_toml(text: str) -> str:
    return re.sub(r'"([\w-]+)": ', r"\1 = ", text).replace('": ', '" = ')


def _value(info: FieldInfo, text: str) -> Any:
    with suppress(MisfitError):
        return typed_text(info, text)
    return _NOTHING


def _rewritten(info: FieldInfo, found: object, origin: Origin) -> list[str]:
    """Return strings that are valid for the type and resemble the value found."""
    if found is None:
        return []
    text = found if isinstance(found, str) else json.dumps(found, default=str)
    is_typed = origin in {Origin.COMMAND_LINE, Origin.ENVIRONMENT}
    forms = {form: _value(info, form) for form in _forms(text) if form != text or not is_typed}
    similar = nearest(text, text_choices(info.annotation), most=1)
    return similar or [
        form
        for form, value in forms.items()
        if value is not _NOTHING and (value is not None or is_typed) and _looks_like(info, text, form, value)
    ]


def _looks_like(info: FieldInfo, text: str, form: str, value: object) -> bool:
    kinds = members(info.annotation)
    if takes_texts(kinds):
        return value is None
    return str not in kinds or not isinstance(value, str) or (value == text and form == json.dumps(text))


def _forms(text: str) -> Iterator[str]:
    stripped = text.strip().replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    yield from _numbers(stripped)
    yield from (stripped, stripped.lower(), stripped.strip("'\""))
    if stripped.lower() in _FORMS:
        yield _FORMS[stripped.lower()]
    yield from _brackets(stripped)
    yield json.dumps(text)


def _numbers(text: str) -> Iterator[str]:
    """Yield the number in canonical form, for a text with a point, an exponent, leading zeros or excess digits."""
    with suppress(ValueError, OverflowError):
        value = float(text)
        if value.is_integer():
            yield str(int(value)) if abs(value) < _MOST_WHOLE else repr(value)


def _brackets(text: str) -> Iterator[str]:
    """Yield a list or a table with the missing brackets or quotes added, or without repeated values."""
    inner = text[1:-1] if text[:1] + text[-1:] in {"()", "[]", "{}"} else text
    yield f"[{inner}]"
    if not {*inner} & {*"\"'[]{}"}:
        yield json.dumps([each.strip() for each in inner.split(",")])
    yield f"{{{inner}}}"
    if isinstance(value := read_text(text), list):
        yield json.dumps([*{repr(each): each for each in value}.values()], default=str)
