"""Origins: the words of a command line, a settings file and the environment, turned into settings with each value's origin.

Knows how each of them is written, and how a fault in one is told to the person who wrote it. Refuses to know any setting by name.

On the command line: `--name value`, `--name=value`, `--flag`, `--no-flag`, with `-` or `_`. Text is given its type by pydantic;
lists and tables are JSON; `none` unsets what may be unset.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import ValidationError

from trainer.errors import DocumentError, SettingError, UsageError
from trainer.settings import ENVIRONMENT_PREFIX, LaunchSettings, Origin, Source, author_of, given, is_secret
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=LaunchSettings)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A command line taken apart: options in the order they were given; `None` for one that stood alone."""

    options: dict[str, str | None]

    def without(self, *names: str) -> Words:
        """Leave out the options of the command itself, which are not settings."""
        return Words(options={name: value for name, value in self.options.items() if name not in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(Generic[S]):
    """Frozen settings, and where each value came from."""

    settings: S
    origins: dict[str, Origin]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Everything that settings can be given by, unread."""

    words: Words
    environ: Mapping[str, str]
    file: Path | None = None
    record: Mapping[str, Any] | None = None


def take_apart(argv: Sequence[str]) -> Words:
    """Take a command line apart without knowing any option. Raises `UsageError` for what is none, or is given twice.

    >>> take_apart(["--learning-rate=1e-3", "--progress", "--seed", "-1"]).options
    {'learning_rate': '1e-3', 'progress': None, 'seed': '-1'}
    """
    options: dict[str, str | None] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise UsageError(
                f"found {word!r} where an option was expected",
                hint=f"options are written --name value: --{word.lstrip('-')}",
            )
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if name in options:
            raise UsageError(f"--{name.replace('_', '-')} is given twice", hint="give it once")
        alone = not equals and (not words or words[0].startswith("--"))
        options[name] = None if alone else (text if equals else words.pop(0))
    return Words(options=options)


def resolve(settings: type[S], origins: Origins, *, partly: bool = False) -> Resolved[S]:
    """Make frozen settings of everything given. Raises `SettingError` naming setting, origin, what was found and expected.

    `partly` passes over names that `settings` does not have: the launcher's view, which does not know the experiment's.
    """
    sources = [
        _from_words(settings, origins.words, partly=partly),
        _known(settings, Origin.RECORD, origins.record or {}, where="by the record", partly=partly),
        _from_environment(settings, origins.environ, partly=partly),
        _from_file(settings, origins.file, partly=partly),
    ]
    token = given.set(tuple(sources))
    try:
        made = settings()
    except ValidationError as fault:
        raise _worded(fault.errors(include_url=False)[0], settings, sources) from fault
    finally:
        given.reset(token)
    return Resolved(settings=made, origins=_origins(settings, sources))


def option(name: str) -> str:
    """Write a setting as it is given on the command line.

    >>> option("learning_rate")
    '--learning-rate'
    """
    return "--" + name.replace("_", "-")


def _origins(settings: type[LaunchSettings], sources: Iterable[Source]) -> dict[str, Origin]:
    found = {name: author_of(settings, name) for name in settings.__pydantic_fields__}
    for source in reversed(list(sources)):
        found |= dict.fromkeys(source.values, source.origin)
    return found


def _from_words(settings: type[LaunchSettings], words: Words, *, partly: bool) -> Source:
    fields = settings.__pydantic_fields__
    values: dict[str, Any] = {}
    for name, text in words.options.items():
        denied = name.removeprefix("no_")
        if text is None and name not in fields and _is_flag(fields.get(denied)):
            values[denied] = "false"
        elif name in fields and text is None and not _is_flag(fields[name]):
            raise SettingError(f"setting {name}: {option(name)} has no value", hint=f"write {option(name)} VALUE")
        else:
            values[name] = "true" if text is None else text
    return _known(settings, Origin.COMMAND_LINE, values, where="on the command line", partly=partly)


def _from_environment(settings: type[LaunchSettings], environ: Mapping[str, str], *, partly: bool) -> Source:
    prefix = ENVIRONMENT_PREFIX
    values = {name.removeprefix(prefix).lower(): value for name, value in environ.items() if name.startswith(prefix)}
    return _known(
        settings, Origin.ENVIRONMENT, values, where=f"by an environment variable ({prefix}...)", partly=partly
    )


def _from_file(settings: type[LaunchSettings], file: Path | None, *, partly: bool) -> Source:
    if file is None:
        return _known(settings, Origin.FILE, {}, where="", partly=partly)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise DocumentError(
            f"settings file {file} cannot be read: {fault.strerror}", hint="check the name after --settings"
        ) from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise DocumentError(
            f"settings file {file} is not valid TOML: {fault}", hint="mend the line that is named"
        ) from fault
    return _known(settings, Origin.FILE, values, where=f"in {file}", partly=partly)


def _known(
    settings: type[LaunchSettings], origin: Origin, values: Mapping[str, Any], *, where: str, partly: bool
) -> Source:
    fields = settings.__pydantic_fields__
    unknown = [name for name in values if name not in fields]
    if unknown and not partly:
        shown = option(unknown[0]) if origin is Origin.COMMAND_LINE else unknown[0]
        raise SettingError(f"unknown setting {shown}, given {where}", hint=did_you_mean(unknown[0], fields))
    if origin is Origin.COMMAND_LINE and (
        secret := next((n for n in values if n in fields and is_secret(fields[n])), None)
    ):
        raise SettingError(
            f"setting {secret} is a secret, given {where}: the record keeps the command, and other users can read it",
            hint=f"hand it in as the environment variable {ENVIRONMENT_PREFIX}{secret.upper()}",
        )
    textual = origin in {Origin.COMMAND_LINE, Origin.ENVIRONMENT}
    kept = {name: _typed(fields[name], value) if textual else value for name, value in values.items() if name in fields}
    return Source(settings, origin, kept, where=where)


def _typed(field: FieldInfo, text: str) -> object:
    kind = str(field.annotation)
    if text.lower() in {"none", "null"} and "None" in kind:
        return None
    if text[:1] in {"[", "{"} and any(word in kind for word in ("list", "tuple", "dict", "set[")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _is_flag(field: FieldInfo | None) -> bool:
    return field is not None and field.annotation is bool


def _worded(fault: ErrorDetails, settings: type[LaunchSettings], sources: Sequence[Source]) -> SettingError:
    name = str(fault["loc"][0]) if fault["loc"] else "?"
    info = settings.__pydantic_fields__.get(name)
    meaning = info.description if info is not None and info.description else f"see {option(name)} in --help"
    if fault["type"] == "missing":
        return SettingError(
            f"setting {name} has no value", hint=f"set it in the experiment, or give {option(name)}: {meaning}"
        )
    where = next((f"given {source.where}" for source in sources if name in source.values), "by its default")
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
