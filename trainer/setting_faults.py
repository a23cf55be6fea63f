"""How what is wrong with settings is told: which one, how it was given, what was found, what was expected, what to do.

Knows the wording, of one fault and of several at once. Refuses to find any: `trainer.origins` does.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from trainer.errors import ExperimentError, SettingError
from trainer.settings import ENVIRONMENT_PREFIX, Origin, is_secret
from trainer.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pydantic_core import ErrorDetails

    from trainer.settings import LaunchSettings, Source

_EXPECTED: Final = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": 'a list, as JSON: ["a", "b"]',
    "dict_type": 'a table, as JSON: {"a": 1}',
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_too_short": "at least {min_length} characters",
}


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


def unknown(name: str, fields: Collection[str], *, origin: Origin, where: str) -> SettingError:
    """Word a name that no setting has, with the nearest ones, each as it would be typed."""
    typed = option if origin is Origin.COMMAND_LINE else str
    near = [typed(other) for other in nearest(name, fields) or _abbreviated(name, fields)]
    hint = f"did you mean {' or '.join(near)}?" if near else "`reprise train --exp NAME --help` lists every setting"
    return SettingError(f"unknown setting {typed(name)}, given {where}", hint=hint)


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


def without_value(name: str) -> SettingError:
    """Word an option that needs a value and stands alone."""
    return SettingError(f"setting {name}: {option(name)} has no value", hint=f"write {option(name)} VALUE")


def shown_secret(name: str, *, where: str) -> SettingError:
    """Word a secret that was given where others can read it."""
    return SettingError(
        f"setting {name} is a secret, given {where}: the record keeps the command, and other users can read it",
        hint=f"hand it in as the environment variable {ENVIRONMENT_PREFIX}{name.upper()}",
    )


def misfit(fault: ErrorDetails, settings: type[LaunchSettings], sources: Sequence[Source]) -> SettingError:
    """Word what pydantic found wrong with a value."""
    name = str(fault["loc"][0]) if fault["loc"] else "?"
    info = settings.__pydantic_fields__.get(name)
    meaning = info.description if info is not None and info.description else f"see {option(name)} in --help"
    if fault["type"] == "missing":
        return SettingError(
            f"setting {name} has no value", hint=f"set it in the experiment, or give {option(name)}: {meaning}"
        )
    where = next((f"given {source.where}" for source in sources if name in source.values), "as the experiment has it")
    found = "a secret" if info is not None and is_secret(info) else repr(fault["input"])[:80]
    return SettingError(
        f"setting {name}, {where}: expected {_expectation(fault)}, found {found}",
        hint=f"{name}: {' '.join(meaning.split())}",
    )


def _expectation(fault: ErrorDetails) -> str:
    template = _EXPECTED.get(fault["type"])
    if template is None:
        message = fault["msg"]
        return message[:1].lower() + message[1:]
    return template.format(**fault.get("ctx", {}))
