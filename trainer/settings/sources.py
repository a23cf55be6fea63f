"""Read the values of a command line and of the environment, by name, before they have a type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.errors import SettingError, UsageError
from trainer.settings.hints import option
from trainer.settings.values import is_flag
from trainer.settings.variables import ENVIRONMENT_PREFIX, setting_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.settings.fields import LaunchSettings


def of_words(settings: type[LaunchSettings], options: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the values of a command line; `None` for an option whose value is missing.

    Raise `UsageError` if a flag and its negation are both given.
    """
    fields = settings.__pydantic_fields__
    values: dict[str, str | None] = {}
    for name, text in options.items():
        denied = name.removeprefix("no_")
        if text is None and name not in fields and is_flag(fields.get(denied)):
            if denied in options:
                raise UsageError(f"{option(denied)} and {option(name)} are both given", hint="use one of them")
            values[denied] = "false"
        else:
            values[name] = "true" if text is None and (name not in fields or is_flag(fields[name])) else text
    return values


def of_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the variables `REPRISE_SETTING_NAME`. Raise `SettingError` for a misspelled prefix."""
    values: dict[str, str] = {}
    for variable, text in environ.items():
        if (name := setting_of(variable)) is None:
            continue
        if name in values:
            message = f"setting {name} is given by two environment variables, which differ in their case"
            raise SettingError(message, hint=f"set {ENVIRONMENT_PREFIX}{name.upper()} only")
        values[name] = text
    return values
