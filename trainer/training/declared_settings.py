"""The settings of an experiment, parsed from its source without running it, to reject definite errors early.

The parser accepts one form: a class `Settings` that derives from a class of the package and contains only names, types and values with
an unambiguous meaning. Any other form is not parsed, and the training process reports errors when it imports the experiment.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Optional, Union

import pydantic
from pydantic import Field

from trainer.base.errors import ExperimentError
from trainer.base.plain_text import read_python
from trainer.settings.declarations import name_fault
from trainer.settings.fields import settings_document
from trainer.settings.origins import Origins, given_settings, resolve
from trainer.settings.values import typed_as
from trainer.training import settings as ours
from trainer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS: Final = frozenset(
    {"samples", "setup", "training_step", "validation_step", "test_step", "split_batch", "used_fields"}
)
"""The methods of `Task` that create and read the fields of a sample."""
_PACKAGE: Final = "trainer.training."
_BOUNDS: Final = ("gt", "ge", "lt", "le", "min_length", "max_length")
_GENERIC: Final = ("list", "tuple", "dict", "set", "frozenset")
_TYPES: Final = ("bool", "int", "float", "str", "list", "tuple", "dict", "set")
_NAMED: dict[str, Any] = {
    name: getattr(pydantic, name)
    for name in (
        *("PositiveInt", "NonNegativeInt", "NegativeInt", "NonPositiveInt"),
        *("PositiveFloat", "NonNegativeFloat", "NegativeFloat", "NonPositiveFloat"),
    )
}
_NAMED |= {kind.__name__: kind for kind in (date, datetime, time, timedelta, Path, Decimal)}
_GENERIC_NAMES: Final[dict[str, Any]] = {
    "Sequence": Sequence,
    "Mapping": Mapping,
    "Optional": Optional,
    "Union": Union,
}
_LIBRARIES: Final = ("pydantic", "typing", "collections.abc", "datetime", "pathlib", "decimal")
_UNKNOWN: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """A class with the experiment's names and types, and the names whose default is known only by running the experiment."""

    settings: type[TrainingSettings]
    unknown_defaults: frozenset[str] = frozenset()
    reads_fields: bool = True
    """Whether the package's own steps read the sample's fields; an experiment with its own steps may not use them."""
    has_input_fields: bool = False
    """Whether the net declares `input_fields`, instead of using the setting `input_field`."""

    @property
    def known(self) -> frozenset[str]:
        """The settings whose type is certain from the source."""
        fields = self.settings.__pydantic_fields__
        return frozenset(name for name, info in fields.items() if info.annotation is not Any)

    def given(self, origins: Origins) -> dict[str, Any]:
        """Return the given values as a record stores them; values of uncertain type as text. Raise `SettingError` for an invalid value."""
        resolved, texts = resolve(self.settings, origins), given_settings(origins)
        values = settings_document(resolved.settings)
        return {
            name: values[name] if name in self.known else texts.get(name)
            for name, origin in resolved.origins.items()
            if origin.is_given and name in values
        }

    def typed(self, origins: Origins) -> dict[str, Any]:
        """Return the given values of settings whose type is certain, as in `given`. Raise `SettingError` for an invalid value."""
        return {name: value for name, value in self.given(origins).items() if name in self.known}

    def spelled(self, name: str, value: Any) -> str | None:
        """Return the command-line text of a setting's value; None if the type is uncertain or no text represents the value."""
        return typed_as(self.settings.__pydantic_fields__[name], value) if name in self.known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Untyped:
    """A setting that is declared by a value without a type, which pydantic rejects."""

    name: str
    value: str
    """The source of the value."""
    line: int
    known: frozenset[str] = frozenset(TrainingSettings.__pydantic_fields__)
    """Settings that the user could have meant."""


class _Declared(NamedTuple):
    """The class `Settings` of a module, its base, and the imports from the package and from `_LIBRARIES`, by local name."""

    module: ast.Module
    settings: ast.ClassDef
    base: type[TrainingSettings]
    names: dict[str, str]


def sketched_in(file: Path) -> Sketch | None:
    """Sketch the settings of the experiment in a file; return None if the file cannot be read or has another form."""
    try:
        return sketched(read_python(file))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def sketched(text: str) -> Sketch | None:
    """Sketch the settings of the experiment with the source `text`; return None if the text has another form."""
    declared = _declared(text)
    sketch = declared and _sketch(declared)
    if declared is None or sketch is None:
        return None
    functions = {node.name for node in ast.walk(declared.module) if isinstance(node, ast.FunctionDef)}
    targets = [each for node in ast.walk(declared.module) for each in _assigned(node)]
    return replace(sketch, reads_fields=not functions & STEPS, has_input_fields="input_fields" in targets)


def _assigned(node: ast.AST) -> list[str]:
    """Return the names that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for each in targets if isinstance(each, ast.Name)]


def untyped(text: str) -> Untyped | None:
    """Return the experiment's first setting that certainly has no type."""
    if (declared := _declared(text)) is None:
        return None
    known = frozenset(declared.base.__pydantic_fields__)
    for name, line in _own_settings(declared):
        if isinstance(line, ast.Assign):
            return Untyped(name=name, value=ast.unparse(line.value), line=line.lineno, known=known)
    return None


def misnamed(text: str) -> tuple[str, str, int] | None:
    """Return the experiment's first setting with an invalid name: the name, the reason and the line."""
    if (declared := _declared(text)) is None:
        return None
    attributes = set(dir(declared.base)) - declared.base.__pydantic_fields__.keys()
    for name, line in _own_settings(declared):
        if why := name_fault(name, attributes=attributes):
            return name, why, line.lineno
    return None


def _own_settings(declared: _Declared) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    """Yield the names that a class certainly declares as its own settings, with their statements."""
    for line in declared.settings.body:
        match line:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=value):
                is_private = value is not None and "PrivateAttr" in ast.unparse(value)
                is_own = "ClassVar" not in ast.unparse(kind) and not is_private
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                is_own = not name.startswith("_") and name != "model_config" and _literal(value) is not _UNKNOWN
            case _:
                continue
        if is_own and name not in declared.base.__pydantic_fields__:
            yield name, line


def untyped_named(text: str, name: str) -> Untyped | None:
    """Return the first declaration of `name`, in any class of `text`, by a value without a type; None without such a declaration."""
    module = _parsed(text)
    for node in ast.walk(module) if module else ():
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            match line:
                case ast.Assign(targets=[ast.Name(id=found)], value=given) if found == name:
                    return Untyped(name=name, value=ast.unparse(given), line=line.lineno)
    return None


@lru_cache(maxsize=4)
def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError):
        return None


def _declared(text: str) -> _Declared | None:
    if (module := _parsed(text)) is None:
        return None
    names = {
        alias.asname or alias.name: alias.name
        for node in module.body
        if isinstance(node, ast.ImportFrom) and (node.module in _LIBRARIES or (node.module or "").startswith(_PACKAGE))
        for alias in node.names
    }
    match [node for node in module.body if "Settings" in _bound(node)]:
        case [ast.ClassDef(bases=[ast.Name(id=base)], keywords=[], decorator_list=[]) as declared]:
            kind = getattr(ours, names.get(base, ""), None)
            if isinstance(kind, type) and issubclass(kind, TrainingSettings):
                return _Declared(module, declared, kind, names)
    return None


def _sketch(declared: _Declared) -> Sketch | None:
    _, settings, base, names = declared
    space: dict[str, Any] = {"__module__": "experiment", "__doc__": None}
    types: dict[str, Any] = space.setdefault("__annotations__", {})
    unknown: set[str] = set()
    for line, below in zip_longest(settings.body, settings.body[1:]):
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
        meaning = inherited and inherited.description
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            meaning = below.value.value or meaning
        if value is _UNKNOWN:
            unknown.add(name)
            space[name] = Field(default=None, validate_default=False, description=meaning)
        else:
            space[name] = Field(default=value, description=meaning)
    try:
        metaclass: Any = type(base)
        return Sketch(settings=metaclass("Settings", (base,), space), unknown_defaults=frozenset(unknown))
    except (ExperimentError, TypeError, pydantic.PydanticUserError, NameError):
        return None


def _annotated(info: Any) -> Any:
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement may bind or change, at any depth."""
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
    """Return the type of an annotation of a supported form with known names; otherwise `Any`, which accepts every value."""
    found: Any = Any
    match node:
        case ast.Name(id=name) if name in _TYPES and name not in names:
            found = getattr(builtins, name)
        case ast.Name(id=name):
            found = _NAMED.get(names.get(name, ""), Any)
        case ast.Constant(value=None | EllipsisType() as value):
            found = value
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            kinds = [_type(left, names), _type(right, names)]
            found = Any if Any in kinds else kinds[0] | kinds[1]
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if names.get(name) == "Literal":
            values = _literal(inner)
            found = Any if values is _UNKNOWN else Literal[values]
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=[kind, *marks])) if (
            names.get(name) == "Annotated"
        ):
            found = _bounded(_type(kind, names), marks, names)
        case ast.Subscript(value=ast.Name(id=name), slice=inner):
            is_builtin = name in _GENERIC and name not in names
            generic: Any = getattr(builtins, name) if is_builtin else _GENERIC_NAMES.get(names.get(name, ""))
            kinds = [_type(each, names) for each in (inner.elts if isinstance(inner, ast.Tuple) else [inner])]
            if generic is not None and Any not in kinds:
                with suppress(TypeError):  # the import reports an unresolved name
                    found = generic[kinds[0] if len(kinds) == 1 else tuple(kinds)]
    return found


def _bounded(kind: Any, marks: list[ast.expr], names: dict[str, str]) -> Any:
    """Return a type with its bounds, such as `Annotated[float, Field(ge=0)]`; `Any` if the marks have another form."""
    match marks:
        case [ast.Call(func=ast.Name(id=name), args=[], keywords=bounds)] if names.get(name) == "Field":
            known = {bound.arg: _literal(bound.value) for bound in bounds if bound.arg in _BOUNDS}
            if kind is not Any and len(known) == len(bounds) and _UNKNOWN not in known.values():
                return Annotated[kind, Field(**known)]
    return Any
