"""The manual of `train`: its options, the experiments, and every setting with type, default and meaning."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic_core import PydanticUndefined

from trainer.settings.canonical_forms import document_of
from trainer.settings.declarations import OPTIONS
from trainer.settings.fields import LaunchSettings, Role, is_new, is_secret, roles
from trainer.settings.hints import option
from trainer.settings.type_texts import expected
from trainer.settings.values import is_flag
from trainer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo

OWN: Final = OPTIONS["train"]
"""Options of the command itself, which are not settings."""
_USAGE: Final = """usage: reprise train --exp EXPERIMENT [--settings FILE.toml ...]
                     [--SETTING VALUE ...] [--print-settings] [--json]
       reprise train --script FILE [--SETTING VALUE ...] [-- ARGUMENTS]
       reprise train --resume RUN [--SETTING VALUE ...]
                     [--allow KINDS] [--trust] [--grant NAMES] [--json]
       reprise train --resume-or-begin RUN --exp EXPERIMENT [...]"""
_TITLE: Final = "Train an experiment and record everything that is needed to reproduce the run."
_OPTIONS: Final = {
    "--exp EXPERIMENT": "experiment: a name in trainer/experiments/, or a Python file",
    "--script FILE": "script or program to start unchanged; the words after `--` are its arguments",
    "--settings FILE.toml": "TOML file with settings, one `name = value` per line; or NAME for settings/NAME.toml; repeatable: "
    "the last file wins",
    "--print-settings": "print every setting with its origin, in the form of a settings file; train nothing",
    "--json": "print the result as JSON",
    "--resume RUN": "resume a stopped or killed run from its last good checkpoint, with its own source and settings",
    "--resume-or-begin RUN": "with --exp: begin the run with this ID, or resume it if it exists, so that a job can be restarted unchanged",
    "--allow KINDS": "with --resume: accept and record changes of settings, image, dataset, determinism, device (comma-separated)",
    "--trust": "with --resume: run code and load checkpoints from another machine or user without asking",
    "--grant NAMES": "with --resume: additional access for code from another machine or user, comma-separated: network, store, machine",
    "--help": "with --exp or --script: list all settings; with --resume: list what can be changed",
}
_ORIGINS: Final = (
    "A setting's value comes from its default, the experiment, the settings files, the environment (REPRISE_SETTING_NAME) or the command "
    "line (--name value, --name=value, --flag, --no-flag); the last of these wins. A list is written '[8, 16]', a table "
    "'{a = 8}'; docs/how-to/settings.md has a table of all types."
)
_RESUME: Final = """usage: reprise train --resume RUN [--SETTING VALUE ...]
                     [--allow KINDS] [--trust] [--grant NAMES] [--json]"""
_RESUME_TITLE: Final = (
    "Resume a stopped or killed run from its last good checkpoint, with its own frozen source and settings."
)
_RESUME_OPTIONS: Final = {
    "--resume RUN": "run: ID, start of an ID, `latest`, or folder; a run that is only in the store is pulled",
    "--json": "print the result as JSON",
    "--trust": "run code and load checkpoints from another machine or user without asking",
    "--grant NAMES": "additional access for code from another machine or user, comma-separated (default: only the run's folder): network, "
    "store, machine",
    "--allow KINDS": (
        "accept and record these changes, comma-separated; the result then depends on more than the run's ingredients:"
    ),
}
_KINDS: Final = {
    "settings": "settings that change the result, given as --name value, except --init-*: `reprise train --exp EXPERIMENT --help` lists "
    "them",
    "determinism": "determinism level and threads",
    "device": "kind of device, precision",
    "image": "image or lock",
    "dataset": "dataset or its version",
}
_HEADINGS: Final = {
    Role.LAUNCH: "Launch settings (read before anything is imported; an experiment cannot set them)",
    Role.RESULT: "Settings that change the result",
    Role.EXECUTION: "Settings that change only how the run is executed and displayed",
}
_BOUNDS: Final = {"gt": "more than {}", "ge": "{} or more", "lt": "less than {}", "le": "{} or less"}
_LONGEST_LINE: Final = 120
"""Maximum columns of a line, even on a wider terminal."""


def launch_help(experiments: Iterable[str]) -> str:
    """Return the manual without the settings of an experiment."""
    names = "\n".join(_wrapped(f"Experiments: {', '.join(experiments)}"))
    return f"{_usage()}\n\n{names}\n\n{settings_help(LaunchSettings)}"


def resume_help() -> str:
    """Return the manual of resuming a run: the settings that can be changed, and the changes that need `--allow`."""
    free = [name for name, role in documented_roles(TrainingSettings).items() if role is Role.EXECUTION]
    fields = TrainingSettings.__pydantic_fields__
    return "\n".join(
        [
            *(_RESUME, "", *_wrapped(_RESUME_TITLE), ""),
            *_table(_RESUME_OPTIONS),
            *_table(_KINDS, indent=20),
            "",
            *_wrapped(
                "These settings change only how the run is executed, and can be given again; all other settings keep their recorded values:"
            ),
            *(line for name in free for line in _describe(name, fields[name], with_default=False)),
        ]
    )


def experiment_help(name: str, settings: type[LaunchSettings]) -> str:
    """Return the manual of one experiment, with its own settings first."""
    about = "\n".join(_wrapped(f"Experiment {name}: {(settings.__doc__ or '').strip()}"))
    return f"{_usage()}\n\n{about}\n\n{settings_help(settings)}"


def documented_roles(settings: type[LaunchSettings]) -> dict[str, Role]:
    """Return the role of each setting as the documentation lists it.

    `init_from` changes the result: the ingredient is not the name in this setting, but the digest of the weights.
    """
    return roles(settings) | ({"init_from": Role.RESULT} if "init_from" in settings.__pydantic_fields__ else {})


def settings_help(settings: type[LaunchSettings]) -> str:
    """Return a list of every setting with type, default and meaning, grouped by role."""
    by_role = documented_roles(settings)
    own = {name for name in by_role if is_new(settings, name)}
    groups = (
        [("Settings of this experiment", [name for name in by_role if name in own])]
        if own and settings is not LaunchSettings
        else []
    )
    groups += [
        (title, [name for name in by_role if by_role[name] is role and (not groups or name not in own)])
        for role, title in _HEADINGS.items()
    ]
    fields = settings.__pydantic_fields__
    return "\n\n".join(
        "\n".join([*_wrapped(f"{title}:"), *(line for name in names for line in _describe(name, fields[name]))])
        for title, names in groups
        if names
    )


def describe_type(info: FieldInfo) -> str:
    """Return a description of a field's type and bounds.

    >>> describe_type(LaunchSettings.model_fields["threads"])
    'an integer or none, more than 0'
    """
    bounds = dict.fromkeys(_bounds([*info.metadata, *_marks(info.annotation)]))
    return ", ".join([expected(info.annotation).replace("'", ""), *bounds])


def describe_default(info: FieldInfo) -> str:
    """Return a field's default as a user would type it."""
    if info.default is PydanticUndefined:
        return "required" if info.default_factory is None else "default computed"
    if info.default is None or is_secret(info):
        return "default none"
    value = document_of(info.default)
    return f"default {value if isinstance(value, str) and value else json.dumps(value, default=str)}"


def _usage() -> str:
    return "\n".join([_USAGE, "", *_wrapped(_TITLE), "", *_table(_OPTIONS), "", *_wrapped(_ORIGINS)])


def _wrapped(text: str, *, indent: int = 0) -> list[str]:
    width = min(shutil.get_terminal_size().columns, _LONGEST_LINE) - 1
    return textwrap.wrap(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(rows: Mapping[str, str], *, indent: int = 2) -> Iterator[str]:
    wide = max(map(len, rows)) + 2
    for name, meaning in rows.items():
        first, *others = _wrapped(meaning, indent=indent + wide)
        yield from (f"{'':{indent}}{name:{wide}}{first.strip()}", *others)


def _describe(name: str, info: FieldInfo, *, with_default: bool = True) -> list[str]:
    """Return the lines about a setting: its option with type and default, and its meaning."""
    spellings = f"{option(name)}, {option(f'no_{name}')}" if is_flag(info) else option(name)
    with_default = with_default and "(default:" not in (info.description or "")  # the description states the default
    about = f"{describe_type(info)}{f'; {describe_default(info)}' if with_default else ''}"
    head = textwrap.wrap(
        f"{spellings}  ({about})",
        len(_wrapped("x " * _LONGEST_LINE)[0]),
        initial_indent="  ",
        subsequent_indent=" " * 6,
    )
    return [*head, *_wrapped(" ".join((info.description or "").split()), indent=6)]


def _marks(annotation: Any) -> Iterator[Any]:
    """Yield the metadata of the types within a union, which hold the bounds of an optional number."""
    for each in get_args(annotation):
        for mark in getattr(each, "__metadata__", ()):
            yield from getattr(mark, "metadata", [mark])


def _bounds(marks: Iterable[Any]) -> Iterator[str]:
    for mark in marks:
        for name, template in _BOUNDS.items():
            if (bound := getattr(mark, name, None)) is not None:
                yield template.format(f"{bound:g}" if isinstance(bound, float) else bound)
