"""How what is wrong with settings is told: which one, how it was given, what was found, what was expected, what to do.

Knows the wording, of one fault and of several at once. Refuses to find any: `trainer.origins` does.
"""

from __future__ import annotations

import ast
import shlex
from typing import TYPE_CHECKING, Final

from trainer.errors import ExperimentError, SettingError
from trainer.setting_types import example, expected, is_compound
from trainer.setting_values import is_flag, members
from trainer.settings import ENVIRONMENT_PREFIX, Origin, is_secret
from trainer.suggest import nearest

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
    "string_pattern_mismatch": "a text of the form {pattern}",
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
    "path_exists": "a path where nothing is yet",
}
"""What a value of the right type has to be besides."""
_RAISED: Final = ("value_error", "assertion_error")
_WHOLE: Final = 10**15
_SHOWN: Final = 80
"""Characters of a wrong value that a message shows."""


def option(name: str) -> str:
    """Write a setting as it is given on the command line.

    >>> option("learning_rate")
    '--learning-rate'
    """
    return "--" + name.replace("_", "-")


def all_of(faults: Sequence[SettingError]) -> SettingError:
    """Make one failure of several, which names each with what to do about it."""
    if len(faults) == 1:
        return faults[0]
    lines = [f"{fault.message}{f' ({fault.hint})' if fault.hint else ''}" for fault in faults]
    whole = SettingError(f"{len(faults)} settings are wrong", hint="\n     ".join(lines))
    whole.faults = tuple(faults)
    return whole


def each_of(fault: SettingError) -> tuple[SettingError, ...]:
    """Give the failures that one was made of."""
    return fault.faults or (fault,)


def unknown(
    name: str, fields: Mapping[str, FieldInfo], *, origin: Origin, where: str, text: object = None
) -> SettingError:
    """Word a name that no setting has, with the nearest ones, each as it would be typed."""
    typed = option if origin is Origin.COMMAND_LINE else str
    said = f"unknown setting {typed(name)}, given {where}"
    denied = name.removeprefix("no_")
    if denied != name and denied in fields:
        return SettingError(said, hint=_no_negation(denied, fields[denied], origin=origin, text=text))
    near = [typed(other) for other in nearest(name, fields) or _abbreviated(name, fields)]
    hint = f"did you mean {' or '.join(near)}?" if near else "`reprise train --exp NAME --help` lists every setting"
    return SettingError(said, hint=hint)


def _no_negation(name: str, info: FieldInfo, *, origin: Origin, text: object) -> str:
    """What to type for `no_` before a setting that has no such form, or not with a value."""
    if not is_flag(info):
        return f"{name} is not true or false: write {_how(name, info, origin) or f'{option(name)} VALUE'}"
    if origin is Origin.COMMAND_LINE and text not in {None, "true"}:
        return f"{option(f'no_{name}')} takes no value: write it alone, or {option(name)} false"
    return f"write {_assigned(name, 'false', origin)}"


def _abbreviated(name: str, fields: Collection[str]) -> list[str]:
    """The settings that `name` has the initials of, as people write them.

    >>> _abbreviated("lr", ["learning_rate", "seed"])
    ['learning_rate']
    """
    return [field for field in fields if "".join(word[0] for word in field.split("_") if word) == name]


def untyped(name: str, value: str, *, place: str, known: Collection[str]) -> ExperimentError:
    """Word a setting that an experiment declares by a value alone: misspelt, or without its type; `place` is file and line."""
    kind = _type_of(value)
    shown = f"{name}: {kind} = {value}" if kind else f"{name}: TYPE = {value}, with its TYPE"
    if near := nearest(name, known, most=1):
        said = f"{place}: there is no setting {name} to override, and one of your own has a type"
        return ExperimentError(said, hint=f"did you mean {near[0]}? A new one would be `{shown}`")
    return ExperimentError(f"{place}: setting {name} has no type", hint=f"give `{name}` a type, e.g. `{shown}`")


def _type_of(value: str) -> str | None:
    """The type of a plain value, as source; for others only its author knows.

    >>> [_type_of(text) for text in ("0.1", "True", "'a'", "None", "f()")]
    ['float', 'bool', 'str', None, None]
    """
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return None
    return None if found is None else type(found).__name__


def unused(name: str, origin: str, *, hint: str) -> SettingError:
    """Word a setting that would have no effect."""
    return SettingError(f"setting {name} is given ({origin}), but nothing in this run uses it", hint=hint)


def unmonitored() -> SettingError:
    """Word a patience with nothing to look at."""
    return SettingError(
        "setting patience is given, but nothing is monitored",
        hint="give --monitor val_loss too, or leave patience out",
    )


def without_value(name: str, info: FieldInfo) -> SettingError:
    """Word an option that needs a value and stands alone."""
    shown = example(info.annotation)
    also = f", as {option(name)} {shlex.quote(shown)}" if shown else ""
    return SettingError(f"setting {name}: {option(name)} has no value", hint=f"write {option(name)} VALUE{also}")


def shown_secret(name: str, *, where: str) -> SettingError:
    """Word a secret that was given where others can read it."""
    return SettingError(
        f"setting {name} is a secret, given {where}: the record keeps the command, and other users can read it",
        hint=f"hand it in as the environment variable {ENVIRONMENT_PREFIX}{name.upper()}",
    )


def unrecorded(name: str, why: str, *, where: str | None) -> SettingError:
    """Word a value that no record can hold."""
    given = f"given {where}" if where else "as the experiment has it"
    return SettingError(f"setting {name}, {given}: found {why}, which a record cannot hold", hint="give another value")


def disagreement(faults: Sequence[ErrorDetails]) -> SettingError:
    """Word what a validator of the experiment says of all settings together."""
    said = "; ".join(_raised(fault) for fault in faults)
    return SettingError(f"the settings do not fit together: {said}", hint="the experiment's Settings class checks this")


def misfit(
    faults: Sequence[ErrorDetails], info: FieldInfo, *, name: str, found: object, origin: Origin, where: str | None
) -> SettingError:
    """Word a value that a setting does not admit: `found` as it was given, `where` how; `None` for the experiment's own default."""
    meaning = " ".join((info.description or f"see {option(name)} in --help").split())
    if faults[0]["type"] == "missing" and where is None:
        hint = f"set it in the experiment, or give {option(name)}: {meaning}"
        return SettingError(f"setting {name} has no value", hint=hint)
    expects, wrong = _expectation(faults, info, found)
    shown = "a secret" if is_secret(info) else _cut(repr(wrong))
    how = _how(name, info, origin, found=None if faults[0]["type"] in _BOUNDS else found)
    return SettingError(
        f"setting {name}, {f'given {where}' if where else 'as the experiment has it'}: expected {expects}, found {shown}",
        hint=f"{f'write {how}; ' if how else ''}{name}: {meaning}",
    )


def _expectation(faults: Sequence[ErrorDetails], info: FieldInfo, found: object) -> tuple[str, object]:
    """What was expected, and what stands in its place: a bound if one is missed, a validator's own words, else the type."""
    for fault in faults:
        if (template := _BOUNDS.get(fault["type"])) and fault.get("ctx", {}).get("field_type") != "Tuple":
            inner = [part for part in fault["loc"][1:] if isinstance(part, int)]
            wrong, place = (fault["input"], f" as value {inner[-1] + 1} in it") if inner else (found, "")
            return template.format(**fault.get("ctx", {})) + place, wrong
    for fault in faults:
        if fault["type"] in _RAISED:
            return f"{expected(info.annotation)} ({_raised(fault)})", found
    return expected(info.annotation), found


def _raised(fault: ErrorDetails) -> str:
    """The words of a validator that the experiment's author wrote."""
    return _cut(str(fault.get("ctx", {}).get("error", fault["msg"])) if fault["type"] in _RAISED else "a wrong value")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _how(name: str, info: FieldInfo, origin: Origin, *, found: object = None) -> str | None:
    """How a value is typed, if its form is not plain from the type's name."""
    if is_flag(info) and origin is Origin.COMMAND_LINE:
        return f"{option(name)} or {option(f'no_{name}')}"
    number = _whole(info, found)
    shown = str(number) if number is not None else example(info.annotation)
    if number is None and not (is_compound(info.annotation) or is_flag(info)):
        return None
    return _assigned(name, shown, origin) if shown else None


def _whole(info: FieldInfo, found: object) -> int | None:
    """The whole number that was written with a point or an exponent."""
    if int not in members(info.annotation) or isinstance(found, bool):
        return None
    try:
        number = float(str(found))
    except ValueError:
        return None
    return int(number) if number.is_integer() and abs(number) < _WHOLE else None


def _assigned(name: str, text: str, origin: Origin) -> str:
    match origin:
        case Origin.COMMAND_LINE:
            return f"{option(name)} {shlex.quote(text)}"
        case Origin.ENVIRONMENT:
            return f"{ENVIRONMENT_PREFIX}{name.upper()}={shlex.quote(text)}"
        case _:
            return f"{name} = {text.replace('{', '{ ').replace('}', ' }').replace(': ', ' = ')}"
