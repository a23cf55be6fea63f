"""Origins: the words of a command line, a settings file and the environment, turned into settings with each value's origin.

Knows how each of them is written, and how a fault in one is told to the person who wrote it. Refuses to know any setting by name.

On the command line: `--name value`, `--name=value`, `--flag`, `--no-flag`, with `-` or `_`. Text is given its type by pydantic;
lists and tables are JSON; `none` unsets what may be unset.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from trainer.errors import DocumentError, SettingError, UsageError
from trainer.setting_faults import all_of, misfit, shown_secret, unknown, without_value
from trainer.settings import ENVIRONMENT_PREFIX, RETEST, LaunchSettings, Origin, Source, author_of, given, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo

S = TypeVar("S", bound=LaunchSettings)

_PREFIX: Final = ENVIRONMENT_PREFIX


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


def asked(origins: Origins) -> dict[str, Any]:
    """Give what was asked for, by name, without knowing any setting: of the command line and the environment that is text, or a flag.

    >>> asked(Origins(words=take_apart(["--seed", "1", "--no-publish", "--full"]), environ={"REPRISE_SETTING_CLASSES": "3"}))
    {'classes': '3', 'seed': '1', 'publish': False, 'full': True}
    """
    told = _from_file(origins.file) | _from_environment(origins.environ)
    for name, text in origins.words.options.items():
        denied = text is None and name.startswith("no_")
        told[name.removeprefix("no_") if denied else name] = (not denied) if text is None else text
    return told


def resolve(settings: type[S], origins: Origins, *, partly: bool = False) -> Resolved[S]:
    """Make frozen settings of everything given. Raises `SettingError` naming every one that is wrong, each with its origin.

    `partly` passes over names that `settings` does not have: the launcher's view, which does not know the experiment's.
    """
    read = [
        _Read(Origin.COMMAND_LINE, _from_words(settings, origins.words), "on the command line"),
        _Read(Origin.RECORD, origins.record or {}, "by the record"),
        _Read(Origin.ENVIRONMENT, _from_environment(origins.environ), f"by an environment variable ({_PREFIX}...)"),
        _Read(Origin.FILE, _from_file(origins.file), f"in {origins.file}"),
    ]
    faults = [fault for each in read for fault in _refused(settings, each, partly=partly)]
    sources = [_source(settings, each) for each in read]
    token = given.set(tuple(sources))
    try:
        made = settings()
    except ValidationError as found:
        raise all_of(faults + _misfits(found, settings, sources)) from found
    finally:
        given.reset(token)
    if faults:
        raise all_of(faults)
    return Resolved(settings=made, origins=_origins(settings, sources, retest=RETEST in origins.environ))


class _Read(NamedTuple):
    """What one origin gives, by name; `None` for an option that stands alone. `where` says it in a message."""

    origin: Origin
    values: Mapping[str, Any]
    where: str


def _refused(settings: type[LaunchSettings], read: _Read, *, partly: bool) -> Iterator[SettingError]:
    fields = settings.__pydantic_fields__
    for name, value in read.values.items():
        if name not in fields:
            if not partly:
                yield unknown(name, fields, origin=read.origin, where=read.where)
        elif read.origin is Origin.COMMAND_LINE and value is None:
            yield without_value(name)
        elif read.origin is Origin.COMMAND_LINE and is_secret(fields[name]):
            yield shown_secret(name, where=read.where)


def _misfits(found: ValidationError, settings: type[LaunchSettings], sources: Sequence[Source]) -> list[SettingError]:
    """Word each setting's first fault: a type that is one of several has a fault for each of them."""
    first = {fault["loc"][:1]: fault for fault in reversed(found.errors(include_url=False))}
    return [misfit(fault, settings, sources) for fault in reversed(first.values())]


def _source(settings: type[LaunchSettings], read: _Read) -> Source:
    fields = settings.__pydantic_fields__
    textual = read.origin in {Origin.COMMAND_LINE, Origin.ENVIRONMENT}
    known = {name: value for name, value in read.values.items() if name in fields}
    kept = (
        {name: _typed(fields[name], value) for name, value in known.items() if value is not None} if textual else known
    )
    return Source(settings, read.origin, kept, where=read.where)


def _origins(settings: type[LaunchSettings], sources: Iterable[Source], *, retest: bool) -> dict[str, Origin]:
    """Where each value came from; in a retest a record is behind everything that is given."""
    found = {name: author_of(settings, name) for name in settings.__pydantic_fields__}
    for source in reversed(list(sources)):
        found |= dict.fromkeys(source.values, Origin.RECORD if retest else source.origin)
    return found


def _from_words(settings: type[LaunchSettings], words: Words) -> dict[str, str | None]:
    fields = settings.__pydantic_fields__
    values: dict[str, str | None] = {}
    for name, text in words.options.items():
        denied = name.removeprefix("no_")
        if text is None and name not in fields and _is_flag(fields.get(denied)):
            values[denied] = "false"
        else:
            values[name] = "true" if text is None and (name not in fields or _is_flag(fields[name])) else text
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(_PREFIX).lower(): text for name, text in environ.items() if name.startswith(_PREFIX)}


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise DocumentError(
            f"settings file {file} cannot be read: {fault.strerror}", hint="check the name after --settings"
        ) from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise DocumentError(
            f"settings file {file} is not valid TOML: {fault}", hint="mend the line that is named"
        ) from fault


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
