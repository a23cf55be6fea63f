"""Error messages for settings: the setting, its origin, the value found, the value expected, and a hint.

This module only formats errors, single or several at once; `trainer.settings.origins` detects them.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from contextlib import suppress
from datetime import date, time
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ExperimentError, SettingError
from trainer.base.suggestions import nearest
from trainer.settings.fields import Origin, is_secret
from trainer.settings.hints import assigned, how_to_type, option
from trainer.settings.texts import read_text
from trainer.settings.type_texts import example, expected
from trainer.settings.values import INEXACT, REPEATED, REPEATED_KEY, TOO_FINE, UNKNOWN_KEY, UNQUOTED, is_flag
from trainer.settings.variables import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_BOUNDS: Final = {
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "a string of the form {pattern}",
    "bytes_too_short": "at least {min_length} bytes",
    "bytes_too_long": "at most {max_length} bytes",
    "too_short": "at least {min_length} values",
    "too_long": "at most {max_length} values",
    "decimal_max_digits": "at most {max_digits} digits",
    "decimal_max_places": "at most {decimal_places} digits after the point",
    "decimal_whole_digits": "at most {whole_digits} digits before the point",
    "date_past": "a date in the past",
    "date_future": "a date in the future",
    "datetime_past": "a date and time in the past",
    "datetime_future": "a date and time in the future",
    "timezone_naive": "a date and time without a time zone",
    "timezone_aware": "a date and time with its time zone, as 2026-01-31T08:00:00Z",
    "path_not_file": "the path of a file that exists",
    "path_not_directory": "the path of a folder that exists",
    "path_exists": "a path that does not exist",
}
"""Message templates for bounds."""
_CHANGED: Final = {
    REPEATED: ("each value once", "{} twice"),
    REPEATED_KEY: ("each key once", "{} twice"),
    UNKNOWN_KEY: ("", "the key {}"),
    INEXACT: ("a number that 64 bits hold exactly", "{}"),
    UNQUOTED: ("a decimal number, in quotes if it has more than 15 digits", "{}"),
    TOO_FINE: ("at most 6 digits after the point of a second", "{}"),
}
"""Templates for silent conversions: what was expected and what was found; if the first is empty, the type's own text is used."""
_KEYS: Final = {
    "extra_forbidden": "the key",
    "unexpected_keyword_argument": "the key",
    "missing": "no key",
}
VARIABLE: Final = f"{ENVIRONMENT_PREFIX}..."
"""Placeholder for the variable's name in the text that describes an origin."""
_RAISED: Final = ("value_error", "assertion_error")
_LONGEST_VALUE: Final = 80
"""Maximum characters of a wrong value in a message."""


def _origin_of(phrase: str, name: str) -> str:
    return "given " + phrase.replace(VARIABLE, f"{ENVIRONMENT_PREFIX}{name.upper()}")


def all_of(faults: Sequence[SettingError]) -> SettingError:
    """Return one error that lists several faults, each with its hint."""
    if len(faults) == 1:
        return faults[0]
    lines = [f"{fault.message}{f' ({fault.hint})' if fault.hint else ''}" for fault in faults]
    combined = SettingError(f"{len(faults)} settings are wrong", hint="\n     ".join(lines))
    combined.faults = tuple(faults)
    return combined


def each_of(fault: SettingError) -> tuple[SettingError, ...]:
    """Return the separate faults of an error made by `all_of`."""
    return fault.faults or (fault,)


def unknown(
    name: str,
    fields: Mapping[str, FieldInfo],
    *,
    origin: Origin,
    phrase: str,
    text: object = None,
    own: Collection[str] = (),
) -> SettingError:
    """Return the error for an unknown setting, with the most similar names in the form in which they are typed.

    `own` are the options of the command itself, which are similar names on the command line only.
    """
    typed = option if origin is Origin.COMMAND_LINE else str
    message = f"unknown setting {typed(name)}, {_origin_of(phrase, name)}"
    denied = name.removeprefix("no_")
    if denied != name and denied in fields:
        return SettingError(message, hint=_no_negation(denied, fields[denied], origin=origin, text=text))
    if section := _section(name, text, fields):
        return SettingError(message, hint=section)
    known = {*fields, *own} if origin is Origin.COMMAND_LINE else {*fields}
    similar = [typed(other) for other in nearest(name, known) or _abbreviated(name, fields)]
    hint = (
        f"did you mean {' or '.join(similar)}?" if similar else "`reprise train --exp NAME --help` lists every setting"
    )
    return SettingError(message, hint=hint)


def _section(name: str, value: object, fields: Collection[str]) -> str | None:
    """Return a hint for a table in a settings file that is not a setting: a section around settings, or a sweep's grid."""
    if isinstance(value, dict) and (inner := next((key for key in value if key.replace("-", "_") in fields), None)):
        return f"a settings file has no sections: write {inner} = ... without [{name}] above it"
    is_points = name == "points" and isinstance(value, list)
    return "`reprise sweep EXPERIMENT --points FILE` reads points" if is_points else None


def _no_negation(name: str, info: FieldInfo, *, origin: Origin, text: object) -> str:
    """Return what to type instead of `no_` before a setting that is not a flag, or before a flag with a value."""
    if not is_flag(info):
        return f"{name} is not true or false: {how_to_type(name, info, origin) or f'write {option(name)} VALUE'}"
    if origin is Origin.COMMAND_LINE and text not in {None, "true"}:
        return f"{option(f'no_{name}')} takes no value: write it alone, or {option(name)} false"
    return f"write {assigned(name, info, 'false', origin)}"


def _abbreviated(name: str, fields: Collection[str]) -> list[str]:
    """Return the settings whose initials are `name`.

    >>> _abbreviated("lr", ["learning_rate", "seed"])
    ['learning_rate']
    """
    return [field for field in fields if "".join(word[0] for word in field.split("_") if word) == name]


def untyped(name: str, value: str, *, place: str, known: Collection[str]) -> ExperimentError:
    """Return the error for a setting declared by a value alone: misspelled, or without a type; `place` is file and line."""
    kind = _type_of(value)
    declaration = f"{name}: {kind} = {value}" if kind else f"{name}: TYPE = {value}, with its TYPE"
    if similar := nearest(name, known, most=1):
        message = f"{place}: there is no setting {name} to override, and a new setting needs a type"
        return ExperimentError(message, hint=f"did you mean {similar[0]}? Declare a new setting as `{declaration}`")
    return ExperimentError(f"{place}: setting {name} has no type", hint=f"give `{name}` a type, e.g. `{declaration}`")


def _type_of(source: str) -> str | None:
    """Return the type of a literal, as source text; `None` for any other expression.

    >>> [_type_of(text) for text in ("0.1", "True", "'a'", "None", "f()")]
    ['float', 'bool', 'str', None, None]
    """
    try:
        value = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return None
    return None if value is None else type(value).__name__


def unused(name: str, origin: str, *, hint: str) -> SettingError:
    """Return the error for a setting that would have no effect."""
    return SettingError(f"setting {name} is given ({origin}), but nothing in this run uses it", hint=hint)


def unmonitored() -> SettingError:
    """Return the error for a patience without a monitored metric."""
    return SettingError(
        "setting patience is given, but nothing is monitored",
        hint="add --monitor val_loss, or omit patience",
    )


def without_value(name: str, info: FieldInfo) -> SettingError:
    """Return the error for an option that needs a value and has none."""
    value = example(info.annotation)
    suffix = f", such as {option(name)} {shlex.quote(value)}" if value else ""
    return SettingError(f"setting {name}: {option(name)} has no value", hint=f"write {option(name)} VALUE{suffix}")


def exposed_secret(name: str, *, phrase: str) -> SettingError:
    """Return the error for a secret that was passed where other users can read it."""
    return SettingError(
        f"setting {name} is a secret, given {phrase}: the record keeps the command, and other users can read it",
        hint=f"pass it as the environment variable {ENVIRONMENT_PREFIX}{name.upper()}",
    )


def unrecorded(name: str, reason: str, hint: str, *, phrase: str | None) -> SettingError:
    """Return the error for a value that a record cannot hold."""
    origin = _origin_of(phrase, name) if phrase else "set by the experiment"
    return SettingError(f"setting {name}, {origin}: found {reason}, which a record cannot store", hint=hint)


def unrepeatable(name: str, value: object, recorded: object, again: object) -> SettingError:
    """Return the error for a value that changes when it is read from its record to `again`, or is rejected if `again` is `None`."""
    original = f"{_cut(repr(value))} ({type(value).__name__})"
    if again is None:
        message = f"setting {name}: the record has {_as_typed(recorded)} for {original}, which a rerun would reject"
    else:
        reread = f"{_cut(repr(again))} ({type(again).__name__})"
        message = f"setting {name}: a rerun would read {reread} from the record, not {original}"
    hint = f"declare {name} with a type and validators that reproduce the value from the record: {_as_typed(recorded)}"
    return SettingError(message, hint=hint)


def disagreement(faults: Sequence[ErrorDetails]) -> SettingError:
    """Return the error for a failed validator of the experiment that checks all settings together."""
    message = "; ".join(_raised(fault) for fault in faults)
    return SettingError(
        f"the settings contradict each other: {message}",
        hint="change one of them, or the validator of the experiment's Settings class",
    )


def misfit(
    faults: Sequence[ErrorDetails], info: FieldInfo, *, name: str, found: object, origin: Origin, phrase: str | None
) -> SettingError:
    """Return the error for a value that a setting rejects. `phrase` is the value's origin, `None` for the experiment's default."""
    meaning = " ".join((info.description or "").split())
    about = f"{name}: {meaning}" if meaning else None
    if faults[0]["type"] == "missing" and len(faults[0]["loc"]) == 1 and phrase is None:
        option_text = how_to_type(name, info, Origin.COMMAND_LINE) or f"use {option(name)}"
        hint = "; ".join(filter(None, (f"set it in the experiment, or {option_text}", about)))
        return SettingError(f"setting {name} has no value", hint=hint)
    expects, found_text = _expectation(faults, info, found)
    is_bound = faults[0]["type"] in _BOUNDS.keys() - {"finite_number"} | {UNQUOTED, TOO_FINE}
    remedy = how_to_type(name, info, origin, found=None if is_bound else found)
    return SettingError(
        f"setting {name}, {_origin_of(phrase, name) if phrase else 'set by the experiment'}: "
        f"expected {expects}, found {'a secret' if is_secret(info) else found_text}",
        hint="; ".join(filter(None, (remedy, about))) or None,
    )


def _expectation(faults: Sequence[ErrorDetails], info: FieldInfo, found: object) -> tuple[str, str]:
    """Return what was expected and found, from the first fault that is a conversion, a bound, a validator's message or a wrong type."""
    for fault in faults:
        if texts := _CHANGED.get(fault["type"]):
            return texts[0] or expected(info.annotation), texts[1].format(_as_typed(fault["input"]))
        if fault["type"] in _KEYS and isinstance(fault["loc"][-1], str):
            return expected(info.annotation), f"{_KEYS[fault['type']]} {fault['loc'][-1]!r}"
    for fault in faults:
        if (template := _BOUNDS.get(fault["type"])) and fault.get("ctx", {}).get("field_type") != "Tuple":
            inner = _position(fault, found)
            text = _as_typed(fault["input"] if inner else found)
            return _fill_bound(template, fault.get("ctx", {})), f"{text}{f' as {inner}' if inner else ''}"
    for fault in faults:
        if fault["type"] in _RAISED:
            return f"{expected(info.annotation)} ({_raised(fault)})", _as_typed(found)
    deepest = max(faults, key=lambda fault: len(_position(fault, found)))
    inner = _position(deepest, found)
    return expected(info.annotation), _as_typed(found) + (f" ({inner}: {_as_typed(deepest['input'])})" if inner else "")


def _fill_bound(template: str, facts: Mapping[str, object]) -> str:
    """Return a bound's text with its numbers filled in, in the singular for 1."""
    text = template.format(**{key: f"{value:g}" if isinstance(value, float) else value for key, value in facts.items()})
    return re.sub(r"\b1 (value|character|byte|digit)s", r"1 \1", text)


def _position(fault: ErrorDetails, found: object) -> str:
    """Return the position of the fault in a list or a table, counted from 1; empty for the whole value."""
    value, parts = read_text(found) if isinstance(found, str) else found, list[str]()
    for key in fault["loc"][1:]:  # the path also contains the names of a union's types
        if isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            value, parts = value[key], [*parts, f"value {key + 1}"]
        elif isinstance(value, dict) and key in value:
            value, parts = value[key], [*parts, str(key)]
    return ", ".join(parts)


def _as_typed(value: object) -> str:
    """Return a value as a user would write it, truncated if it is long."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):
        return value.isoformat()
    with suppress(TypeError, ValueError):
        if isinstance(value, list | dict):
            return _cut(json.dumps(value, ensure_ascii=False, default=str))
    return _cut(repr(value))


def _raised(fault: ErrorDetails) -> str:
    return _cut(str(fault.get("ctx", {}).get("error", fault["msg"])) if fault["type"] in _RAISED else "a wrong value")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
