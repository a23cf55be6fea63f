"""Declarations of settings: what an experiment's class cannot declare, each rejected by file and line when the class is made."""

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
from trainer.settings.names import name_fault, negation_fault
from trainer.settings.type_agreement import resolved, worded
from trainer.settings.type_kinds import members
from trainer.settings.values import is_flag

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import FrameType

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_READ_ONCE: Final = (Iterable, Iterator, Generator)
_PLAIN: Final = (bool, int, float, str, list, tuple, dict, set)
_LINES: Final = 10_000
"""Lines of a class in which a declaration is looked for."""


def unnamable(name: str, why: str, *, place: str) -> ExperimentError:
    """Word a setting that cannot have its name; `place` is file and line."""
    return ExperimentError(f"{place}: no setting can be named {name}: {why}", hint=f"give {name} another name")


def require_names(
    bases: tuple[type, ...], namespace: Mapping[str, Any], known: Collection[str], frame: FrameType
) -> None:
    """Raise `ExperimentError` for a name that no setting can have, with its place in the code; `known` ones are the package's."""
    attributes = {*dir(bases[0])} - {*known} if bases else set[str]()
    for name in _declared(namespace):
        if name not in known and (why := name_fault(name, attributes=attributes)):
            raise unnamable(name, why, place=_place(name, frame))
    for name, value in namespace.items():
        if name not in known and name not in namespace["__annotations__"] and _is_imported(value, namespace):
            said = f"{_place(name, frame)}: {name} is imported in the class Settings, which holds settings only"
            raise ExperimentError(said, hint="import it above the class")


def _is_imported(value: object, namespace: Mapping[str, Any]) -> bool:
    """Whether an attribute of a class is a module, or a class that is not defined within it."""
    inner = f"{namespace.get('__qualname__')}."
    return isinstance(value, ModuleType) or (isinstance(value, type) and not value.__qualname__.startswith(inner))


def require_fields(fields: Mapping[str, FieldInfo], frame: FrameType) -> None:
    """Raise `ExperimentError` for two names of one option, and for a setting that cannot be given, recorded or read twice."""
    if found := negation_fault(fields, [name for name, info in fields.items() if is_flag(info)]):
        raise unnamable(*found, place=_place(found[0], frame))
    for name, info in fields.items():
        if any((get_origin(kind) or kind) in _READ_ONCE for kind in members(info.annotation)):
            said = f"{_place(name, frame)}: setting {name} is declared as an iterable, which can be read only once"
            raise ExperimentError(said, hint=f"declare {name} as a Sequence, or as a list")
        if info.validation_alias or info.serialization_alias:
            said = f"{_place(name, frame)}: setting {name} has an alias; a setting has one name everywhere"
            raise ExperimentError(said, hint="remove the alias, or give the setting that name")
        if info.exclude:
            said = f"{_place(name, frame)}: setting {name} is excluded from documents, so that no record would have it"
            raise ExperimentError(said, hint="remove exclude=True; a field of type SecretStr is recorded nowhere")


def undocumentable(fault: PydanticSchemaGenerationError, kinds: Mapping[str, Any], frame: FrameType) -> ExperimentError:
    """Word a setting of a type that no document holds; `kinds` are the types that the class declares, as text or not."""
    for name, kind in kinds.items():
        try:
            TypeAdapter(resolved(kind, {**frame.f_globals, **frame.f_locals}))
        except PydanticSchemaGenerationError:
            shown = kind if isinstance(kind, str) else worded(kind)
            said = f"{_place(name, frame)}: setting {name} has the type {shown}, of which no document can hold a value"
            return ExperimentError(said, hint=f"declare {name} as text, a number, a list or a table")
        except Exception:  # noqa: BLE001, S112 - another fault than the one that is looked for
            continue
    said = f"{frame.f_code.co_filename}:{frame.f_lineno}: {fault.message.splitlines()[0]}"
    return ExperimentError(said, hint="declare each setting as text, a number, a list or a table")


def complete(settings: type[BaseModel]) -> None:
    """Look up the types that a class names and that were defined after it. Raises `ExperimentError` for one that is not defined."""
    if settings.__pydantic_complete__ or settings.model_rebuild(raise_errors=False):
        return
    names = [name for name, info in settings.__pydantic_fields__.items() if "ForwardRef" in repr(info.annotation)]
    name = names[0] if names else "?"
    file = getattr(sys.modules.get(settings.__module__), "__file__", None) or "?"
    shown = re.findall(r"ForwardRef\('([^']*)'", repr(settings.__pydantic_fields__[name].annotation)) if names else []
    said = f"{_line_of(name, file, 1)}: setting {name} has the type {shown[0] if shown else '?'}, which is not defined"
    raise ExperimentError(said, hint="import or define it above the class")


def _declared(namespace: Mapping[str, Any]) -> Iterator[str]:
    """The names that a class declares as settings, or seems to: those with a type, and plain values."""
    typed = namespace.get("__annotations__", {})
    for name, annotation in typed.items():
        is_private = isinstance(namespace.get(name), type(PrivateAttr()))
        if not is_private and "ClassVar" not in str(annotation) and get_origin(annotation) is not ClassVar:
            yield name
    for name, value in namespace.items():
        is_plain = value is None or type(value) in _PLAIN
        if is_plain and name not in typed and not name.startswith("_") and name != "model_config":
            yield name


def _place(name: str, frame: FrameType) -> str:
    """Where the class that is being made in this frame declares a name."""
    return _line_of(name, frame.f_code.co_filename, frame.f_lineno)


def _line_of(name: str, file: str, first: int) -> str:
    """The file and the line that declares a name, from a line on; that line if there is none."""
    pattern = re.compile(rf"\s+{re.escape(name)}\s*[:=]|\s+(import|from)\b.*\b{re.escape(name)}\b")
    for line in range(first, first + _LINES):
        if pattern.match(linecache.getline(file, line)):
            return f"{Path(file).name}:{line}"
    return f"{Path(file).name}:{first}"
