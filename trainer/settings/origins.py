"""Read settings from the command line, settings files and the environment, with each value's origin.

Errors name the setting. `trainer.settings.values` decides which value a text has.

On the command line: `--name value`, `--name=value`, `--flag`, `--no-flag`, with `-` or `_`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from trainer.base.errors import SettingError, UsageError
from trainer.base.redaction import REDACTOR
from trainer.settings.canonical_forms import document_of, one_form, unrecordable
from trainer.settings.declarations import OPTIONS, complete
from trainer.settings.errors import (
    VARIABLE,
    all_of,
    disagreement,
    exposed_secret,
    misfit,
    unknown,
    unrecorded,
    without_value,
)
from trainer.settings.fields import (
    RETEST,
    LaunchSettings,
    Origin,
    OriginSource,
    author_of,
    given,
    is_package_default,
    is_secret,
)
from trainer.settings.hints import option
from trainer.settings.replay import changed_by_record
from trainer.settings.settings_file import TypedText, read_settings_file
from trainer.settings.sources import of_environment, of_words
from trainer.settings.values import (
    MisfitError,
    has_early_validator,
    typed_default,
    typed_text,
    typed_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=LaunchSettings)

_REPEATABLE: Final = "settings"


Options = Mapping[str, str | None]
"""A parsed command line: options in the given order; `None` for an option without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(Generic[S]):
    """Frozen settings, and the origin of each value."""

    settings: S
    origins: dict[str, Origin]
    files: dict[str, str] = field(default_factory=dict)
    """The settings file of each value with the origin `file`."""
    neutral: frozenset[str] = frozenset()
    """Settings that a file gives their default: no error if nothing uses them, so that a file may hold all settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """All origins of settings, not yet read."""

    options: Options
    environ: Mapping[str, str]
    files: tuple[Path, ...] = ()
    """Settings files; a later file overrides the settings of an earlier file."""
    record: Mapping[str, Any] | None = None
    own: Collection[str] = OPTIONS["train"]
    """The command's own options, which an unknown option may be a misspelling of."""


def parse_options(argv: Sequence[str]) -> dict[str, str | None]:
    """Parse a command line without knowledge of any option. Raise `UsageError` for a non-option word and a repeated option.

    Only `--settings` may be repeated: `settings_names` returns all its values.

    >>> parse_options(["--learning-rate=1e-3", "--progress", "--seed", "-1"])
    {'learning_rate': '1e-3', 'progress': None, 'seed': '-1'}
    """
    options: dict[str, str | None] = {}
    for name, text in _options_in(argv):
        if name in options and name != _REPEATABLE:
            raise UsageError(
                f"--{name.replace('_', '-')} is given twice", hint=f"remove the second --{name.replace('_', '-')}"
            )
        options[name] = text
    return options


def settings_names(argv: Sequence[str]) -> list[str | None]:
    """Return the values of `--settings` on a command line, in order; `None` for an option without a value.

    >>> settings_names(["--settings", "base.toml", "--seed", "1", "--settings=models/large"])
    ['base.toml', 'models/large']
    """
    return [text for name, text in _options_in(argv) if name == _REPEATABLE]


def _options_in(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    before: dict[str, str | None] = {}
    remaining = list(argv)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise _no_option(word, before)
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        alone = not equals and (not remaining or remaining[0].startswith("--"))
        before[name] = None if alone else (text if equals else remaining.pop(0))
        yield name, before[name]


def as_words(options: Options) -> list[str]:
    """Return options as words of a command line: the inverse of `parse_options`.

    >>> as_words({"learning_rate": "1e-3", "progress": None})
    ['--learning-rate=1e-3', '--progress']
    """
    return [option(name) if text is None else f"{option(name)}={text}" for name, text in options.items()]


def setting_options(options: Options, *, own: Collection[str] = OPTIONS["train"]) -> dict[str, str | None]:
    """Return the options that are settings; `own` are the command's own options."""
    return {name: value for name, value in options.items() if name not in own}


def _no_option(word: str, before: Mapping[str, str | None]) -> UsageError:
    """Return the error for a word where an option was expected; `before` are the options before the word."""
    message = f"found {word!r} where an option was expected"
    name = [*before][-1] if before else ""
    if before.get(name) == "=":
        return UsageError(message, hint=f"write {option(name)}={word}, without spaces around =")
    return UsageError(message, hint=f"options are written --name value: --{word.lstrip('-')}")


def given_settings(origins: Origins) -> dict[str, Any]:
    """Return the given values by name, without knowledge of any setting. Command line and environment values are text or a flag.

    >>> given_settings(Origins(options=parse_options(["--seed", "1", "--no-publish", "--full"]), environ={"REPRISE_SETTING_CLASSES": "3"}))
    {'classes': '3', 'seed': '1', 'publish': False, 'full': True}
    """
    values: dict[str, Any] = {}
    for file in origins.files:
        values |= read_settings_file(file)
    values |= of_environment(origins.environ)
    for name, text in origins.options.items():
        denied = text is None and name.startswith("no_")
        values[name.removeprefix("no_") if denied else name] = (not denied) if text is None else text
    return values


def resolve(settings: type[S], origins: Origins, *, ignore_unknown: bool = False) -> Resolved[S]:
    """Create frozen settings from all origins. Raise `SettingError` that lists every wrong setting with its origin.

    `ignore_unknown` ignores names that `settings` does not have, for the launcher, which does not import the experiment.
    """
    complete(settings)
    read = [
        _Read(Origin.COMMAND_LINE, of_words(settings, origins.options), "on the command line"),
        _Read(Origin.RECORD, origins.record or {}, "by the record"),
        _Read(Origin.ENVIRONMENT, of_environment(origins.environ), f"by the environment variable {VARIABLE}"),
        *(_Read(Origin.FILE, read_settings_file(file), f"in {file}", file) for file in reversed(origins.files)),
    ]
    _keep_out_of_texts(settings, read)
    faults = [
        fault for each in read for fault in _refused(settings, each, own=origins.own, ignore_unknown=ignore_unknown)
    ]
    sources, misfits = _sources(settings, read)
    token = given.set(tuple(sources))
    try:
        made = settings()
    except ValidationError as found:
        raise all_of([*faults, *misfits.values(), *_misfits(found, settings, sources, known=misfits)]) from found
    finally:
        given.reset(token)
    faults += [*misfits.values(), *_odd_defaults(made, sources, known=misfits), *_unrecorded(made, sources)]
    if faults := faults or [*changed_by_record(made)]:
        raise all_of(faults)
    retest = RETEST in origins.environ
    files = {
        name: str(each.file) for each, source in zip(read, sources, strict=True) if each.file for name in source.values
    }
    return Resolved(
        settings=made,
        origins=_origins(settings, sources, retest=retest),
        files={} if retest else files,
        neutral=frozenset(name for name in files if _is_default(made, name)),
    )


class _Read(NamedTuple):
    """The values of one origin, by name; `None` for an option without a value. `phrase` describes the origin in messages."""

    origin: Origin
    values: Mapping[str, Any]
    phrase: str
    file: Path | None = None

    def is_text(self, name: str) -> bool:
        """Return whether a value is a text that has no type yet."""
        return self.origin in {Origin.COMMAND_LINE, Origin.ENVIRONMENT} or isinstance(self.values[name], TypedText)


def _keep_out_of_texts(settings: type[LaunchSettings], read: Sequence[_Read]) -> None:
    """Register every given secret with the redactor, so that it is removed from text that leaves this process."""
    fields = settings.__pydantic_fields__
    for values in (each.values for each in read):
        for name, value in values.items():
            if name in fields and is_secret(fields[name]) and isinstance(value, str):
                REDACTOR.add(name, value)


def _refused(
    settings: type[LaunchSettings], read: _Read, *, own: Collection[str], ignore_unknown: bool
) -> Iterator[SettingError]:
    fields = settings.__pydantic_fields__
    for name, value in read.values.items():
        if name not in fields:
            if not ignore_unknown:
                yield unknown(name, fields, origin=read.origin, phrase=read.phrase, text=value, own=own)
        elif read.origin is Origin.COMMAND_LINE and value is None:
            yield without_value(name, fields[name])
        elif read.origin is Origin.COMMAND_LINE and is_secret(fields[name]):
            yield exposed_secret(name, phrase=read.phrase)


def _sources(
    settings: type[LaunchSettings], read: Sequence[_Read]
) -> tuple[list[OriginSource], dict[str, SettingError]]:
    """Return the effective values with their types, and the faults of the others; overridden values are omitted."""
    fields = settings.__pydantic_fields__
    typed_values: list[dict[str, Any]] = [{} for _ in read]
    faults: dict[str, SettingError] = {}
    names: set[str] = set()
    for values, each in zip(typed_values, read, strict=True):
        for name in [name for name in each.values if name in fields and name not in names]:
            names.add(name)
            if (value := each.values[name]) is None and each.origin is Origin.COMMAND_LINE:
                continue
            try:
                values[name] = _typed(settings, name, value, textual=each.is_text(name))
            except MisfitError as fault:
                values[name] = value
                faults[name] = misfit(
                    fault.faults, fields[name], name=name, found=value, origin=each.origin, phrase=each.phrase
                )
    sources = [
        OriginSource(settings, each.origin, values, phrase=each.phrase)
        for values, each in zip(typed_values, read, strict=True)
    ]
    for source in sources:
        source.passed = {name: value for name, value in source.values.items() if name not in faults}
    return sources, faults


def _typed(settings: type[LaunchSettings], name: str, value: Any, *, textual: bool) -> Any:
    info, own_validator = settings.__pydantic_fields__[name], has_early_validator(settings, name)
    if textual:
        return typed_text(info, value, checks_type=not own_validator)
    return value if own_validator else typed_value(info, value)


def _misfits(
    found: ValidationError, settings: type[LaunchSettings], sources: Sequence[OriginSource], *, known: Collection[str]
) -> list[SettingError]:
    """Return one error per setting for the faults that the class itself found; `known` settings already have an error."""
    faults: dict[str, list[ErrorDetails]] = {}
    for fault in found.errors(include_url=False):
        faults.setdefault(str(fault["loc"][0]) if fault["loc"] else "", []).append(fault)
    return [
        _misfit(name, each, settings, sources) if name in settings.__pydantic_fields__ else disagreement(each)
        for name, each in faults.items()
        if name not in known
    ]


def _misfit(
    name: str, faults: Sequence[ErrorDetails], settings: type[LaunchSettings], sources: Sequence[OriginSource]
) -> SettingError:
    source = next((source for source in sources if name in source.values), None)
    return misfit(
        faults,
        settings.__pydantic_fields__[name],
        name=name,
        found=faults[0]["input"],
        origin=source.origin if source else Origin.EXPERIMENT,
        phrase=source.phrase if source else None,
    )


def _odd_defaults(
    made: LaunchSettings, sources: Sequence[OriginSource], *, known: Collection[str]
) -> Iterator[SettingError]:
    """Yield errors for defaults of the wrong type that Python accepts: `True` for a number, a text for a number."""
    kind = type(made)
    for name, info in kind.__pydantic_fields__.items():
        if name in known or is_package_default(kind, name) or any(name in source.values for source in sources):
            continue  # a test checks the package's defaults
        if has_early_validator(kind, name):
            continue
        try:
            typed_default(info)
        except MisfitError as fault:
            yield misfit(fault.faults, info, name=name, found=info.default, origin=Origin.EXPERIMENT, phrase=None)


def _unrecorded(made: LaunchSettings, sources: Sequence[OriginSource]) -> Iterator[SettingError]:
    """Yield errors for values that a record cannot hold: every value must be readable and usable again."""
    for name in type(made).__pydantic_fields__:
        if reason := unrecordable(made.value_of(name)):
            phrase = next((source.phrase for source in sources if name in source.values), None)
            yield unrecorded(name, *reason, phrase=phrase)


def _is_default(made: LaunchSettings, name: str) -> bool:
    """Return whether a value is the setting's default, in the form that a document has for it."""
    info = type(made).__pydantic_fields__[name]
    if info.is_required() or is_secret(info):
        return False
    with suppress(ValueError):  # a default that a document cannot represent
        default = one_form(info.get_default(call_default_factory=True))
        return bool(document_of(default) == document_of(made.value_of(name)))
    return False


def _origins(settings: type[LaunchSettings], sources: Iterable[OriginSource], *, retest: bool) -> dict[str, Origin]:
    """Return the origin of each value; in a retest, every given value comes from a record."""
    origins = {name: author_of(settings, name) for name in settings.__pydantic_fields__}
    for source in reversed(list(sources)):
        origins |= dict.fromkeys(source.values, Origin.RECORD if retest else source.origin)
    return origins
