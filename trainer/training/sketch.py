"""The settings of an experiment as its text tells them: read, not run, so that what is certainly wrong is refused at once.

Knows one form: a class `Settings` that derives from one of the package's and holds nothing but names, types and values that mean what
they say. Refuses to guess: any other form gives no sketch, and then the training process, which imports the experiment, is the judge.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Optional, Union

import pydantic
from pydantic import Field

from trainer.base.errors import ExperimentError
from trainer.base.plain_text import read_python
from trainer.settings.fields import written
from trainer.settings.names import name_fault
from trainer.settings.origins import Origins, asked, resolve
from trainer.settings.values import typed_as
from trainer.training import settings as ours
from trainer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

STEPS: Final = frozenset(
    {"samples", "setup", "training_step", "validation_step", "test_step", "split_batch", "used_fields"}
)
"""The methods of `Task` by which the fields of a sample are made and read."""
_PACKAGE: Final = "trainer.training."
_BOUNDS: Final = ("gt", "ge", "lt", "le", "min_length", "max_length")
_HOLDERS: Final = ("list", "tuple", "dict", "set", "frozenset")
_TYPES: Final = ("bool", "int", "float", "str", "list", "tuple", "dict", "set")
_NAMED: dict[str, Any] = {
    name: getattr(pydantic, name)
    for name in (
        *("PositiveInt", "NonNegativeInt", "NegativeInt", "NonPositiveInt"),
        *("PositiveFloat", "NonNegativeFloat", "NegativeFloat", "NonPositiveFloat"),
    )
}
_NAMED |= {kind.__name__: kind for kind in (date, datetime, time, timedelta, Path, Decimal)}
_LIBRARIES: Final = ("pydantic", "typing", "collections.abc", "datetime", "pathlib", "decimal")
_UNKNOWN: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A class that has the experiment's names and types, and the names whose default only running the experiment tells."""

    settings: type[TrainingSettings]
    untold: frozenset[str] = frozenset()
    reads_fields: bool = True
    """Whether the package's own steps read the sample's fields; an experiment that has steps of its own may not care for them."""

    @property
    def known(self) -> frozenset[str]:
        """The settings whose type the text makes certain."""
        fields = self.settings.__pydantic_fields__
        return frozenset(name for name, info in fields.items() if info.annotation is not Any)

    def given(self, origins: Origins) -> dict[str, Any]:
        """The values that were given, as a record holds them; a text if its setting's type is not certain. Raises `SettingError`."""
        resolved, texts = resolve(self.settings, origins), asked(origins)
        values = written(resolved.settings)
        return {
            name: values[name] if name in self.known else texts.get(name)
            for name, origin in resolved.origins.items()
            if origin.is_given and name in values
        }

    def typed(self, origins: Origins) -> dict[str, Any]:
        """The values that were given to settings whose type is certain, as a record holds them. Raises `SettingError`."""
        return {name: value for name, value in self.given(origins).items() if name in self.known}

    def spelled(self, name: str, value: Any) -> str | None:
        """The text that would be typed for a setting's value, if its type is certain and a text has that value."""
        return typed_as(self.settings.__pydantic_fields__[name], value) if name in self.known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Untyped:
    """A setting that is declared by a value alone, which pydantic refuses."""

    name: str
    value: str
    """Its source."""
    line: int
    known: frozenset[str] = frozenset(TrainingSettings.__pydantic_fields__)
    """Settings that could have been meant."""


class _Declared(NamedTuple):
    settings: ast.ClassDef
    base: type[TrainingSettings]
    names: dict[str, str]


def sketched_in(file: Path) -> Sketch | None:
    """Sketch the settings of the experiment in a file; `None` if it cannot be read as text."""
    try:
        return sketched(read_python(file))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def sketched(text: str) -> Sketch | None:
    """Sketch the settings of the experiment whose source is `text`; `None` where its form is another one."""
    module = _parsed(text)
    if module is None or (declared := _declared(module)) is None:
        return None
    drawn = _sketch(*declared)
    return drawn and replace(drawn, reads_fields=not _has_steps(module))


def untyped(text: str) -> Untyped | None:
    """Give the first setting of the experiment that certainly has no type."""
    module = _parsed(text)
    if module is None or (declared := _declared(module)) is None:
        return None
    for line in declared.settings.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=given) if (
                name not in declared.base.__pydantic_fields__
                and not name.startswith("_")
                and name != "model_config"
                and _literal(given) is not _UNKNOWN
            ):
                known = frozenset(declared.base.__pydantic_fields__)
                return Untyped(name=name, value=ast.unparse(given), line=line.lineno, known=known)
    return None


def misnamed(text: str) -> tuple[str, str, int] | None:
    """Give the first setting of the experiment that cannot have its name: the name, why, and the line."""
    module = _parsed(text)
    if module is None or (declared := _declared(module)) is None:
        return None
    known = declared.base.__pydantic_fields__
    attributes = set(dir(declared.base)) - known.keys()
    for name, line in _settings_in(declared.settings, known):
        if why := name_fault(name, attributes=attributes):
            return name, why, line
    return None


def _settings_in(declared: ast.ClassDef, known: Container[str]) -> Iterator[tuple[str, int]]:
    """The names that a class certainly declares as settings of its own, with their lines."""
    for line in declared.body:
        match line:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=given):
                if name not in known and "ClassVar" not in ast.unparse(kind) and not _is_private(given):
                    yield name, line.lineno
            case ast.Assign(targets=[ast.Name(id=name)], value=given):
                is_plain = not name.startswith("_") and name != "model_config" and _literal(given) is not _UNKNOWN
                if name not in known and is_plain:
                    yield name, line.lineno


def _is_private(given: ast.expr | None) -> bool:
    return given is not None and "PrivateAttr" in ast.unparse(given)


def untyped_named(text: str, name: str) -> Untyped | None:
    """Give the line of a class that declares `name` by a value alone, whatever the value and the class."""
    module = _parsed(text)
    for node in ast.walk(module) if module else ():
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            match line:
                case ast.Assign(targets=[ast.Name(id=found)], value=given) if found == name:
                    return Untyped(name=name, value=ast.unparse(given), line=line.lineno)
    return None


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError):
        return None


def _declared(module: ast.Module) -> _Declared | None:
    names = _imported(module.body)
    match [node for node in module.body if "Settings" in _bound(node)]:
        case [ast.ClassDef(bases=[ast.Name(id=base)], keywords=[], decorator_list=[]) as declared]:
            kind = getattr(ours, names.get(base, ""), None)
            if isinstance(kind, type) and issubclass(kind, TrainingSettings):
                return _Declared(declared, kind, names)
    return None


def _has_steps(module: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name in STEPS for node in ast.walk(module))


def _sketch(declared: ast.ClassDef, base: type[TrainingSettings], names: dict[str, str]) -> Sketch | None:
    space: dict[str, Any] = {"__module__": __name__, "__doc__": None}
    types: dict[str, Any] = space.setdefault("__annotations__", {})
    untold: set[str] = set()
    for line, below in zip_longest(declared.body, declared.body[1:]):
        match line:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                continue
            case ast.Assign(targets=[ast.Name(id=name)], value=given) if name in base.__pydantic_fields__:
                value = _literal(given)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=given):
                types[name] = _type(kind, names)
                value = ... if given is None else _literal(given)
            case _:
                return None
        if name.startswith("_") or name == "model_config":
            return None
        inherited = base.__pydantic_fields__.get(name)
        types.setdefault(name, _annotated(inherited) if inherited else Any)
        meaning = _meaning(below) or (inherited and inherited.description)
        if value is _UNKNOWN:
            untold.add(name)
            space[name] = Field(default=None, validate_default=False, description=meaning)
        else:
            space[name] = Field(default=value, description=meaning)
    try:
        made: Any = type(base)
        return Sketch(settings=made("Settings", (base,), space), untold=frozenset(untold))
    except (ExperimentError, TypeError, pydantic.PydanticUserError, NameError):
        return None


def _meaning(below: ast.stmt | None) -> str | None:
    match below:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return None


def _annotated(info: Any) -> Any:
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _imported(body: list[ast.stmt]) -> dict[str, str]:
    """What the names of the package, pydantic and typing are called in this module."""
    return {
        alias.asname or alias.name: alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and (node.module in _LIBRARIES or (node.module or "").startswith(_PACKAGE))
        for alias in node.names
    }


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement may bind or change, at any depth."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.alias):
            yield part.asname or part.name


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return _UNKNOWN


def _type(node: ast.expr, names: dict[str, str]) -> Any:
    """The type that an annotation names, where it is a plain one or pydantic's; `Any`, which admits everything, for another."""
    found: Any = Any
    match node:
        case ast.Name(id=name) if name in _TYPES and name not in names:
            found = getattr(builtins, name)
        case ast.Name(id=name):
            found = _NAMED.get(names.get(name, ""), Any)
        case ast.Constant(value=None):
            found = None
        case ast.Constant(value=EllipsisType()):
            found = ...
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            found = _either(_type(left, names), _type(right, names))
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if names.get(name) == "Literal":
            values = _literal(inner)
            found = Any if values is _UNKNOWN else Literal[values]
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=[kind, *marks])) if (
            names.get(name) == "Annotated"
        ):
            found = _marked(_type(kind, names), marks, names)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if (holder := _holder(name, names)) is not None:
            kinds = [_type(each, names) for each in (inner.elts if isinstance(inner, ast.Tuple) else [inner])]
            found = Any if Any in kinds else _held(holder, kinds)
    return found


def _held(holder: Any, kinds: list[Any]) -> Any:
    try:
        return holder[kinds[0] if len(kinds) == 1 else tuple(kinds)]
    except TypeError:  # the import reports it
        return Any


def _holder(name: str, names: dict[str, str]) -> Any:
    """The type that holds others by this name: a builtin one, or one of the library."""
    if name in _HOLDERS and name not in names:
        return getattr(builtins, name)
    return {"Sequence": Sequence, "Mapping": Mapping, "Optional": Optional, "Union": Union}.get(names.get(name, ""))


def _marked(kind: Any, marks: list[ast.expr], names: dict[str, str]) -> Any:
    """A type with its bounds: `Annotated[float, Field(ge=0)]`."""
    match marks:
        case [ast.Call(func=ast.Name(id=name), args=[], keywords=bounds)] if names.get(name) == "Field":
            known = {bound.arg: _literal(bound.value) for bound in bounds if bound.arg in _BOUNDS}
            if kind is not Any and len(known) == len(bounds) and _UNKNOWN not in known.values():
                return Annotated[kind, Field(**known)]
    return Any


def _either(one: Any, other: Any) -> Any:
    return Any if Any in (one, other) else one | other
