"""The manual of `train`: its options, the experiments, every setting with type, default and meaning.

Knows how a setting is shown. Refuses to know any setting.
"""

from __future__ import annotations

import re
from enum import EnumType
from typing import TYPE_CHECKING, Final

from pydantic_core import PydanticUndefined

from trainer.setting_names import OPTIONS
from trainer.settings import LaunchSettings, Role, roles
from trainer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo

OWN: Final = OPTIONS["train"]
"""Options of the command itself: no settings."""
_USAGE = """usage: reprise train --exp EXPERIMENT [--settings FILE.toml] [--json] [--SETTING VALUE ...]
       reprise train --resume RUN [--allow KINDS] [--trust] [--grant NAMES] [--json]

Train an experiment and leave a record from which it can be run again.

  --exp NAME|PATH     the experiment: one of the names below, or any Python file
  --settings FILE     values in TOML: name = value, one a line
  --json              the result as one line of JSON
  --resume RUN        go on with a run that was stopped or killed, from its last good checkpoint, with its own source and settings
  --allow KINDS       with --resume: what may be otherwise than before, as settings,image,dataset,determinism,device; it is recorded
  --help              with --exp: every setting of that experiment; with --resume: what can be given anew

A value is taken from, the last one wins: its default, the experiment, the file, the environment (REPRISE_SETTING_NAME), the command
line (--name value, --name=value, --flag, --no-flag)."""
_RESUME = """usage: reprise train --resume RUN [--SETTING VALUE ...] [--allow KINDS] [--trust] [--grant NAMES] [--json]

Go on with a run that was stopped or killed, from its last good checkpoint: with its own frozen source and its own settings.

  --resume RUN        an id, the beginning of one, `latest`, or a run's folder; one that is only in the store is pulled
  --json              the result as one line of JSON
  --trust             run code, and use checkpoints, that were made elsewhere, and do not ask
  --grant NAMES       give such code more than its own run's folder: network, store, machine, with commas between
  --allow KINDS       what may be otherwise than before, with commas between; it is recorded, and the result is no longer that of the
                      run's ingredients alone:
"""
_KINDS = {
    "settings": "settings that bear on the result, given as --name value: `reprise train --exp EXPERIMENT --help` lists them",
    "determinism": "its level and threads",
    "device": "another kind of device, another precision",
    "image": "another image or lock than the run's",
    "dataset": "another dataset, or version of it",
}
_HEADINGS = {
    Role.LAUNCH: "Launch (before anything is imported; an experiment cannot set these)",
    Role.RESULT: "Bear on the result",
    Role.EXECUTION: "Bear on the execution only",
}


def launch_help(experiments: Iterable[str]) -> str:
    """Write the manual without any experiment's settings."""
    names = ", ".join(experiments)
    return f"{_USAGE}\n\nExperiments: {names}\n\n{settings_help(LaunchSettings)}"


def resume_help() -> str:
    """Write the manual of going on with a run: what may be given anew, and what only when it is allowed."""
    kinds = "\n".join(f"{'':22}{name:12} {meaning}" for name, meaning in _KINDS.items())
    free = [name for name, role in roles(TrainingSettings).items() if role is Role.EXECUTION]
    lines = [_shown(name, TrainingSettings.__pydantic_fields__[name], told_default=False) for name in free]
    return "\n".join(
        [
            f"{_RESUME}{kinds}",
            "",
            "Settings that bear on the execution only can be given anew, each otherwise as it was:",
            *lines,
        ]
    )


def experiment_help(name: str, settings: type[LaunchSettings]) -> str:
    """Write the manual of one experiment: its own settings first."""
    return f"{_USAGE}\n\nExperiment {name}: {(settings.__doc__ or '').strip()}\n\n{settings_help(settings)}"


def settings_help(settings: type[LaunchSettings]) -> str:
    """List every setting with type, default and meaning, by what it bears on."""
    by_role = roles(settings)
    own = {name for name in vars(settings).get("__annotations__", {}) if _is_new(settings, name)}
    groups = (
        [("Of this experiment", [name for name in by_role if name in own])]
        if own and settings is not LaunchSettings
        else []
    )
    groups += [
        (title, [name for name in by_role if by_role[name] is role and (not groups or name not in own)])
        for role, title in _HEADINGS.items()
    ]
    return "\n\n".join(
        "\n".join([f"{title}:", *(_shown(name, settings.__pydantic_fields__[name]) for name in names)])
        for title, names in groups
        if names
    )


def kind_of(info: FieldInfo) -> str:
    """Write a field's type for a person.

    >>> kind_of(LaunchSettings.model_fields["threads"])
    'int or none'
    """
    text = (
        str(info.annotation)
        if "[" in str(info.annotation) or "|" in str(info.annotation)
        else getattr(info.annotation, "__name__", "")
    )
    text = (
        text.replace("typing.", "").replace("collections.abc.", "").replace("NoneType", "none").replace("None", "none")
    )
    if isinstance(info.annotation, EnumType):
        return " or ".join(str(member) for member in info.annotation)
    text = re.sub(r"Annotated\[(\w+), [^\]]*\]", r"\1", text)
    text = re.sub(r"Literal\[(.*)\]", lambda found: found[1].replace("'", "").replace(", ", " or "), text)
    return re.sub(r"Optional\[(.*)\]", r"\1 or none", text).replace(" | ", " or ")


def _is_new(settings: type[LaunchSettings], name: str) -> bool:
    return not any(name in getattr(base, "__pydantic_fields__", {}) for base in settings.__bases__)


def _shown(name: str, info: FieldInfo, *, told_default: bool = True) -> str:
    default = (
        "required"
        if info.default is PydanticUndefined
        else f"default {info.default if info.default is not None else 'none'}"
    )
    bounds = ", ".join(_bound(mark) for mark in info.metadata if _bound(mark))
    about = f"{kind_of(info)}{', ' + bounds if bounds else ''}{f'; {default}' if told_default else ''}"
    meaning = " ".join((info.description or "").split())
    return f"  --{name.replace('_', '-')}  ({about})\n      {meaning}"


def _bound(mark: object) -> str:
    words = {"Gt": "more than {gt}", "Ge": "{ge} or more", "Lt": "less than {lt}", "Le": "{le} or less"}
    template = words.get(type(mark).__name__)
    return (
        template.format(**{key: getattr(mark, key) for key in ("gt", "ge", "lt", "le") if hasattr(mark, key)})
        if template
        else ""
    )
