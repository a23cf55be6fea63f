"""The settings of a plain module: the typed parameters of its constructor and of its data module's constructor.

A parameter whose type a document can hold becomes a setting of the same name. For a parameter that takes an object, such as a net or an
optimizer, the setting is a text that names a class with its arguments: `src.nets.SimpleNet(width=128)`. `{dataset:NAME}` in a text stands
for the folder of a dataset.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, NoneType, new_class
from typing import TYPE_CHECKING, Any, Final, Optional, cast, get_origin

import torch
from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from trainer.base.errors import ExperimentError, SettingError
from trainer.data.references import with_folders
from trainer.settings.declarations import name_fault
from trainer.settings.fields import Role, role_of
from trainer.settings.hints import option
from trainer.settings.type_kinds import agree, members, resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.training.settings import FitSettings

_EMPTY: Final = inspect.Parameter.empty
_BY_NAME: Final = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
_LATER: Final = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
"""Classes whose objects the module creates itself: the module gets a function that creates the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a constructor that a setting fills."""

    name: str
    owner: type
    annotation: Any
    default: Any
    is_object: bool
    """Whether the setting is a text that names a class or a function."""

    @property
    def has_default(self) -> bool:
        """Whether the constructor has a default for the parameter."""
        return self.default is not _EMPTY

    @property
    def described(self) -> str:
        """Return the name of the class and the location of the constructor."""
        return f"{self.owner.__name__} ({self.place})"

    @property
    def place(self) -> str:
        """Return the file and line of the constructor."""
        return place_of(self.owner)


def place_of(owner: type) -> str:
    """Return the file and line of a class's constructor, for messages."""
    code = inspect.unwrap(owner.__init__).__code__  # type: ignore[misc]
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def parameters_of(owner: type, *, unfilled: dict[str, str] | None = None) -> list[Parameter]:
    """Return the parameters of a constructor that settings fill. Raise `ExperimentError` if no setting can fill a required parameter.

    A parameter with a default keeps the default if no setting can fill it: its name or type is not usable, or the default does not have
    the type. Such a parameter is added to `unfilled`, with the reason.
    """
    constructor = inspect.unwrap(owner.__init__)  # type: ignore[misc]
    if constructor is object.__init__:
        return []
    found = []
    for name, each in [*inspect.signature(constructor).parameters.items()][1:]:
        if each.kind not in _BY_NAME:
            continue
        kind = each.annotation
        kind = resolved(kind, constructor.__globals__) if isinstance(kind, str) else kind
        why = name_fault(name, attributes=())
        if why is None and (kind is _EMPTY or kind is Any):
            why = "it has no type" if each.annotation is _EMPTY else f"its type {each.annotation} cannot be resolved"
        if why is None and each.default is None and NoneType not in members(kind) and not isinstance(kind, ModuleType):
            kind = kind | None if isinstance(kind, type) else Optional[kind]  # noqa: UP045 - not every type form supports `|`
        is_object = why is None and not _is_documentable(kind)
        if why is None and not is_object and not _is_valid(kind, each.default):
            why = f"its default {each.default!r} does not have its type"
        if why is None:
            found.append(Parameter(name=name, owner=owner, annotation=kind, default=each.default, is_object=is_object))
        elif each.default is _EMPTY:
            message = f"{place_of(owner)}: {owner.__name__} needs {name}, which no setting can fill: {why}"
            hint = (
                f"annotate its type, such as `{name}: int`"
                if "type" in why
                else f"add a default to {name}, or rename it"
            )
            raise ExperimentError(message, hint=hint)
        elif unfilled is not None:
            unfilled[name] = f"parameter {name} of {owner.__name__} ({place_of(owner)}) cannot be given: {why}"
    return found


def _is_valid(kind: Any, default: Any) -> bool:
    if default is _EMPTY:
        return True
    try:
        TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(default)
    except (ValidationError, PydanticUserError):
        return False
    return True


def _is_documentable(kind: Any) -> bool:
    if isinstance(kind, ModuleType):
        return False
    if any(each is Callable or get_origin(each) in {Callable, type} or each is type for each in members(kind)):
        return False
    try:
        TypeAdapter(kind)
    except PydanticSchemaGenerationError:
        return False
    return not any(isinstance(each, type) and issubclass(each, (torch.nn.Module, *_LATER)) for each in members(kind))


def settings_class(
    base: type[FitSettings], parameters: list[Parameter], *, module: str, about: str
) -> type[FitSettings]:
    """Return the class of settings with a field for each parameter.

    Raise `ExperimentError` if parameters of the same name have different types, or if a parameter has the name of a launch setting.
    """
    annotations: dict[str, Any] = {}
    namespace: dict[str, Any] = {"__module__": module, "__annotations__": annotations, "__doc__": about}
    for name in dict.fromkeys(each.name for each in parameters):
        first, *others = [each for each in parameters if each.name == name]
        for other in others:
            if first.is_object != other.is_object or not (first.is_object or agree(first.annotation, other.annotation)):
                message = f"parameter {name} has two types: {first.described} and {other.described}"
                raise ExperimentError(message, hint="rename one of them, or annotate both with the same type")
        if (ours := base.__pydantic_fields__.get(name)) is not None:
            if role_of(ours) is Role.LAUNCH:
                message = f"{first.place}: {first.owner.__name__} has a parameter {name}, which must be known before it is imported"
                raise ExperimentError(message, hint=f"rename it: {option(name)} is a setting of the run")
            if first.has_default:
                namespace[name] = first.default  # the field keeps its type, bounds and description
            continue
        annotations[name], default = _kind(first), first.default
        is_one = not first.is_object and all(_is_same(default, each.default) for each in others)
        if not all(each.has_default for each in (first, *others)):
            default = _EMPTY
        elif not is_one:  # with None, each constructor uses its own default
            annotations[name], default = Optional[annotations[name]], None  # noqa: UP045 - not every type form supports `|`
        about_it = " and ".join(each.described for each in (first, *others))
        given = {} if default is _EMPTY else {"default": default}
        namespace[name] = Field(description=f"Parameter of {about_it}.", **given)
    return new_settings(base, namespace)


def new_settings(base: type[FitSettings], namespace: dict[str, Any]) -> type[FitSettings]:
    """Return a class `Settings` that derives from `base`, with the fields in `namespace`."""
    made: Any = new_class("Settings", (base,), exec_body=lambda body: body.update(namespace))
    return cast("type[FitSettings]", made)


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))


def _kind(parameter: Parameter) -> Any:
    if not parameter.is_object:
        return parameter.annotation
    may_be_absent = parameter.default is not _EMPTY or NoneType in members(parameter.annotation)
    return str | None if may_be_absent else str


def object_of(parameter: Parameter, text: str, *, module: ModuleType, folders: Mapping[str, Path]) -> Any:
    """Return the object that a text such as `src.nets.SimpleNet(width=128)` describes.

    For an optimizer, a schedule, or a parameter that the module calls, return a function with the arguments: the module calls it later.
    Raise `SettingError` if the text is not a name with literal named arguments, if nothing callable has the name, or if the call raises
    `TypeError`.
    """
    given = f"setting {parameter.name} is {text!r}"
    example = f"{option(parameter.name)} 'package.module.Name(argument=1)'"
    try:
        parsed = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as fault:
        raise SettingError(f"{given}; expected a class with its arguments", hint=f"write {example}") from fault
    call = parsed if isinstance(parsed, ast.Call) else ast.Call(func=parsed, args=[], keywords=[])
    try:
        path, arguments = _dotted(call.func), {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except ValueError as fault:
        message = f"{given}; expected a class with named arguments that are numbers, strings, lists or tables"
        raise SettingError(message, hint=f"write {example}") from fault
    if call.args or "None" in arguments:
        raise SettingError(f"{given}; each of its arguments needs a name", hint=f"write {example}")
    found = _find(path, module)
    if found is None or not callable(found):
        what = "does not exist" if found is None else "cannot be called"
        hint = "name it with its module, such as `torch.optim.Adam` or `src.nets.SimpleNet`"
        raise SettingError(f"{given}; {path} {what}", hint=hint)
    made = functools.partial(found, **with_folders(arguments, folders))
    if _is_made_later(parameter.annotation):
        return made if arguments or isinstance(parsed, ast.Call) else found
    try:
        return made()
    except TypeError as fault:
        raise SettingError(f"{given}; {path} rejects its arguments: {fault}", hint=f"write {example}") from fault


def _is_made_later(annotation: Any) -> bool:
    if isinstance(annotation, ModuleType):
        return True
    kinds = [each for each in members(annotation) if each is not NoneType]
    return all(not isinstance(each, type) or each is type or issubclass(each, _LATER) for each in kinds)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError(ast.dump(node))


def _find(path: str, module: ModuleType) -> Any:
    first, _, rest = path.partition(".")
    found: Any = getattr(module, first, None) or getattr(builtins, first, None)
    if found is None:
        try:
            found = importlib.import_module(first)
        except ModuleNotFoundError as fault:
            if fault.name != first:
                raise
            return None
    for name in filter(None, rest.split(".")):
        if not hasattr(found, name) and isinstance(found, ModuleType):
            try:
                importlib.import_module(f"{found.__name__}.{name}")
            except ModuleNotFoundError as fault:
                if fault.name != f"{found.__name__}.{name}":
                    raise
        if (found := getattr(found, name, None)) is None:
            return None
    return found
