"""Check an experiment's setting declarations when its class is created, and setting names. Each error names the file and line.

A name is rejected if a command, the settings' base class or a record gives it another meaning.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_origin

from pydantic import PrivateAttr, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from trainer.base.errors import ExperimentError
from trainer.settings.type_kinds import members, resolved, type_text
from trainer.settings.values import is_flag

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import FrameType

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": (
        "exp",
        "script",
        "settings",
        "help",
        "json",
        "resume",
        "resume_or_begin",
        "allow",
        "trust",
        "grant",
        "print_settings",
    ),
    "sweep": (
        "settings",
        "help",
        "json",
        "points",
        "jobs",
        "continue",
        "again",
        "show",
        "sort",
        "mode",
        "to",
        "dry_run",
    ),
    "submit": ("help", "json", "settings", "to", "nodes", "dry_run"),
    "check": ("help", "json", "settings", "synthetic", "bits", "steps"),
    "bench": ("help", "json", "settings", "synthetic", "steps", "warmup", "seconds", "against", "profile"),
    "noise": ("help", "json", "settings", "seeds", "gain", "to", "dry_run"),
    "certify": ("help", "json", "settings", "steps", "kill_after", "key", "to", "dry_run", "first_run"),
}
"""The options of each command that also accepts settings. No setting may have the name of an option of `train`, which accepts every
setting. For other commands the option takes precedence, and `report_shared_options` reports it."""
_FORM: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
"""`trainer.comparison.rerun` expects the same form in a record. Upper case is rejected because an environment variable has one case."""
_UNFILLABLE: Final = frozenset({"self"})
"""Parameters of these names are never filled."""


def name_fault(name: str, *, attributes: Collection[str]) -> str | None:
    """Return why a setting cannot have this name, or `None`; `attributes` are the names in the settings' base class.

    >>> name_fault("resume", attributes=()), name_fault("steps", attributes=())
    ('--resume is an option of reprise train', None)
    """
    if not _FORM.fullmatch(name):
        return "a name has lower-case letters a to z, digits and underscores, and begins with a letter"
    if name in OPTIONS["train"]:
        return f"--{name} is an option of reprise train"
    if name in attributes or name in _UNFILLABLE:
        return "all settings have a method or attribute of that name"
    return None


def negation_fault(names: Collection[str], flags: Collection[str]) -> tuple[str, str] | None:
    """Return a setting whose option equals the negation of another setting's option, and the reason; `flags` are the boolean settings.

    >>> negation_fault(["bias", "no_bias"], ["bias"])
    ('no_bias', '--no-bias sets bias to false')
    """
    for flag in sorted(flags):
        if f"no_{flag}" in names:
            return f"no_{flag}", f"--no-{flag.replace('_', '-')} sets {flag} to false"
    return None


_READ_ONCE: Final = (Iterable, Iterator, Generator)
_VALUE_TYPES: Final = (bool, int, float, str, list, tuple, dict, set)
_LINES: Final = 10_000
"""Maximum lines of a class that are searched for a declaration."""


def unnamable(name: str, reason: str, *, place: str) -> ExperimentError:
    """Return the error for a setting whose name is not allowed; `place` is file and line."""
    return ExperimentError(f"{place}: no setting can be named {name}: {reason}", hint=f"give {name} another name")


def require_names(
    bases: tuple[type, ...], namespace: Mapping[str, Any], known: Collection[str], frame: FrameType
) -> None:
    """Raise `ExperimentError`, with file and line, for a setting name that is not allowed; `known` are the names in the bases."""
    attributes = {*dir(bases[0])} - {*known} if bases else set[str]()
    for name in _declared(namespace):
        if name not in known and (reason := name_fault(name, attributes=attributes)):
            raise unnamable(name, reason, place=_location_of(name, frame))
    for name, value in namespace.items():
        if name not in known and name not in namespace["__annotations__"] and _is_imported(value, namespace):
            message = (
                f"{_location_of(name, frame)}: {name} is imported in the class Settings, which holds settings only"
            )
            raise ExperimentError(message, hint="import it above the class")


def _is_imported(value: object, namespace: Mapping[str, Any]) -> bool:
    """Return whether a class attribute is a module, or a class that is defined outside this class."""
    inner = f"{namespace.get('__qualname__')}."
    return isinstance(value, ModuleType) or (isinstance(value, type) and not value.__qualname__.startswith(inner))


def require_fields(fields: Mapping[str, FieldInfo], frame: FrameType) -> None:
    """Raise `ExperimentError` for two settings that share an option, and for a setting that cannot be parsed, recorded or reread."""
    if conflict := negation_fault(fields, [name for name, info in fields.items() if is_flag(info)]):
        raise unnamable(*conflict, place=_location_of(conflict[0], frame))
    for name, info in fields.items():
        if any((get_origin(kind) or kind) in _READ_ONCE for kind in members(info.annotation)):
            message = (
                f"{_location_of(name, frame)}: setting {name} is declared as an iterable, which can be read only once"
            )
            raise ExperimentError(message, hint=f"declare {name} as a Sequence, or as a list")
        if info.validation_alias or info.serialization_alias:
            message = f"{_location_of(name, frame)}: setting {name} has an alias; a setting has one name everywhere"
            raise ExperimentError(message, hint="remove the alias, or give the setting that name")
        if info.exclude:
            message = (
                f"{_location_of(name, frame)}: setting {name} is excluded from documents, so no record would have it"
            )
            raise ExperimentError(message, hint="remove exclude=True; a field of type SecretStr is never recorded")


def undocumentable(fault: PydanticSchemaGenerationError, kinds: Mapping[str, Any], frame: FrameType) -> ExperimentError:
    """Return the error for a setting whose type has no form in a document; `kinds` maps names to types, resolved or as text."""
    for name, kind in kinds.items():
        try:
            TypeAdapter(resolved(kind, {**frame.f_globals, **frame.f_locals}))
        except PydanticSchemaGenerationError:
            text = kind if isinstance(kind, str) else type_text(kind)
            message = (
                f"{_location_of(name, frame)}: setting {name} has the type {text}, which a document cannot represent"
            )
            return ExperimentError(message, hint=f"declare {name} as a string, a number, a list or a table")
        except Exception:  # noqa: BLE001, S112 - not the fault that is being located
            continue
    message = f"{frame.f_code.co_filename}:{frame.f_lineno}: {fault.message.splitlines()[0]}"
    return ExperimentError(message, hint="declare each setting as a string, a number, a list or a table")


def complete(settings: type[BaseModel]) -> None:
    """Resolve types that are defined after the class that names them. Raise `ExperimentError` if a type is not defined."""
    if settings.__pydantic_complete__ or settings.model_rebuild(raise_errors=False):
        return
    names = [name for name, info in settings.__pydantic_fields__.items() if "ForwardRef" in repr(info.annotation)]
    name = names[0] if names else "?"
    file = getattr(sys.modules.get(settings.__module__), "__file__", None) or "?"
    type_names = (
        re.findall(r"ForwardRef\('([^']*)'", repr(settings.__pydantic_fields__[name].annotation)) if names else []
    )
    message = f"{_find_line(name, file, 1)}: setting {name} has the type {type_names[0] if type_names else '?'}, which is not defined"
    raise ExperimentError(message, hint="import or define it above the class")


def _declared(namespace: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that a class declares as settings or appears to: annotated names and plain values."""
    typed = namespace.get("__annotations__", {})
    for name, annotation in typed.items():
        is_private = isinstance(namespace.get(name), type(PrivateAttr()))
        if not is_private and "ClassVar" not in str(annotation) and get_origin(annotation) is not ClassVar:
            yield name
    for name, value in namespace.items():
        is_plain = value is None or type(value) in _VALUE_TYPES
        if is_plain and name not in typed and not name.startswith("_") and name != "model_config":
            yield name


def _location_of(name: str, frame: FrameType) -> str:
    """Return the file and line where the class that is created in this frame declares a name."""
    return _find_line(name, frame.f_code.co_filename, frame.f_lineno)


def _find_line(name: str, file: str, first: int) -> str:
    """Return the file and line that declares a name, searching from line `first`; line `first` if no line declares it."""
    pattern = re.compile(rf"\s+{re.escape(name)}\s*[:=]|\s+(import|from)\b.*\b{re.escape(name)}\b")
    for line in range(first, first + _LINES):
        if pattern.match(linecache.getline(file, line)):
            return f"{Path(file).name}:{line}"
    return f"{Path(file).name}:{first}"
