"""Sources of settings: what a command line, the environment and a settings file give, by name, before any value has a type."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import parse_toml
from trainer.base.errors import DocumentError, SettingError, UsageError
from trainer.base.plain_text import read_text
from trainer.settings.fields import ENVIRONMENT_PREFIX, LaunchSettings
from trainer.settings.hints import option
from trainer.settings.values import is_flag

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LARGEST_SETTINGS: Final = 1 << 20
"""Bytes of a settings file: what is larger is another file, named by mistake."""
_MOST: Final = 1_000
"""Keys of a settings file: each one that is unknown is compared with all that are known."""
_OTHER: Final = "is it the settings file?"
_LIKE_PREFIX: Final = re.compile(r"REPRISE[_-]?SETTING(S?[_-]|)", re.IGNORECASE)
"""How the prefix of a variable is misspelt."""


def of_words(settings: type[LaunchSettings], options: Mapping[str, str | None]) -> dict[str, str | None]:
    """Give the values of a command line; `None` for an option that needs one and stands alone."""
    fields = settings.__pydantic_fields__
    values: dict[str, str | None] = {}
    for name, text in options.items():
        denied = name.removeprefix("no_")
        if text is None and name not in fields and is_flag(fields.get(denied)):
            if denied in options:
                raise UsageError(f"{option(denied)} and {option(name)} are both given", hint="give one of them")
            values[denied] = "false"
        else:
            values[name] = "true" if text is None and (name not in fields or is_flag(fields[name])) else text
    return values


def of_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the values of the variables `REPRISE_SETTING_NAME`. Raises `SettingError` for a prefix that is nearly that."""
    values: dict[str, str] = {}
    for variable, text in environ.items():
        if not (found := _LIKE_PREFIX.match(variable)):
            continue
        name = variable[found.end() :].lower()
        if found[0] != ENVIRONMENT_PREFIX or not name:
            said = f"unknown environment variable {variable}: a setting is given by {ENVIRONMENT_PREFIX} and its name"
            raise SettingError(said, hint=f"write {ENVIRONMENT_PREFIX}{name.upper() or 'NAME'}, or unset {variable}")
        if name in values:
            said = f"setting {name} is given by two environment variables, which differ in their case"
            raise SettingError(said, hint=f"give {ENVIRONMENT_PREFIX}{name.upper()} alone")
        values[name] = text
    return values


def of_file(file: Path | None) -> dict[str, Any]:
    """Give the values of a settings file; `-` and `_` are the same in its names. Raises `DocumentError`."""
    if file is None:
        return {}
    content = parse_toml(read_text(file, most=LARGEST_SETTINGS), where=f"settings file {file}")
    if len(content) > _MOST:
        raise DocumentError(f"settings file {file} has {len(content):,} keys; expected at most {_MOST:,}", hint=_OTHER)
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name.replace("-", "_") in values:
            raise DocumentError(f"settings file {file}: {name} is given twice, with - and with _", hint="give it once")
        values[name.replace("-", "_")] = value
    return values
