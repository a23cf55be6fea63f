"""Parameters of configured functions: their names, types and places, and the check that each name has one type everywhere.

`trainer.settings.type_kinds` compares the types.
"""

from __future__ import annotations

import dis
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import ExperimentError
from trainer.settings.type_kinds import agree, resolved, type_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from trainer.settings.fields import LaunchSettings

_LOADS: Final = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "STORE_FAST_LOAD_FAST")
_FILLABLE: Final = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredParameter:
    """A parameter of a configured function, which the setting of the same name fills."""

    name: str
    called: str
    function: Any
    parameter: inspect.Parameter

    @property
    def kind(self) -> Any:
        """Return the parameter's type; `Any` if it has no annotation, or an annotation that cannot be resolved here."""
        annotation = self.parameter.annotation
        return Any if annotation is inspect.Parameter.empty else resolved(annotation, self.function.__globals__)

    @property
    def is_handed_over(self) -> bool:
        """Return whether the package's own code always passes this parameter by position, so that no setting fills it."""
        ours = str(self.function.__module__).startswith("trainer.training.")
        return ours and self.parameter.kind is not inspect.Parameter.KEYWORD_ONLY

    def describe(self, root: Path) -> str:
        """Return the parameter's type and the place of its declaration, for a message."""
        code = self.function.__code__
        location = _location(Path(code.co_filename), code.co_firstlineno, root)
        return f"{self.called} ({location}) takes it as {type_text(self.parameter.annotation)}"


_parameters: Final[dict[str, dict[tuple[str, str], ConfiguredParameter]]] = {}
"""All parameters that a setting can fill, used in this run or not: by parameter name, then by module and function."""


def fillable(signature: inspect.Signature) -> dict[str, inspect.Parameter]:
    """Return the parameters that a setting can fill."""
    return {name: value for name, value in signature.parameters.items() if value.kind in _FILLABLE and name != "self"}


def configured_parameters(function: Any, *, called: str) -> list[ConfiguredParameter]:
    """Return the parameters of a function that a setting can fill."""
    fillable_parameters, inner = fillable(inspect.signature(function)), inspect.unwrap(function)
    return [
        ConfiguredParameter(name=name, called=called, function=inner, parameter=each)
        for name, each in fillable_parameters.items()
    ]


def loaded(code: CodeType) -> set[str]:
    """Return the variables that a function's bytecode loads, including inner functions."""
    names: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith(_LOADS):
            names_loaded = instruction.argval
            names.update(names_loaded if isinstance(names_loaded, tuple) else (names_loaded,))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= loaded(constant) & set(constant.co_freevars)
    return names


def register(function: Any, *, called: str) -> None:
    """Register the parameters of a configured function."""
    for parameter in configured_parameters(function, called=called):
        _parameters.setdefault(parameter.name, {})[function.__module__, called] = parameter


def functions_with(name: str) -> list[str]:
    """Return the names of all configured functions with a parameter of this name."""
    return sorted({called for _, called in _parameters.get(name, ())})


def parameters_in(modules: Container[str]) -> list[ConfiguredParameter]:
    """Return all parameters of configured functions in these modules."""
    return [parameter for each in _parameters.values() for (module, _), parameter in each.items() if module in modules]


def require_agreement(settings: type[LaunchSettings], parameters: Sequence[ConfiguredParameter], *, root: Path) -> None:
    """Raise `ExperimentError` if a name has two types; the error lists all such names, each with both places."""
    lines = [*_with_settings(settings, parameters, root), *_among(settings, parameters, root)]
    if lines:
        more = "" if len(lines) == 1 else f" (and {len(lines) - 1} more)"
        hint = "\n     ".join([*lines[1:], "use one type for both, or rename one of them: each name has one meaning"])
        raise ExperimentError(f"{lines[0]}{more}", hint=hint)


def _with_settings(
    settings: type[LaunchSettings], parameters: Sequence[ConfiguredParameter], root: Path
) -> Iterator[str]:
    fields = settings.__pydantic_fields__
    for parameter in parameters:
        info = None if parameter.is_handed_over else fields.get(parameter.name)
        if info is not None and not agree(info.annotation, parameter.kind):
            location = _declared_at(settings, parameter.name, root)
            yield f"setting {parameter.name} is declared {type_text(info.annotation)} ({location}), but {parameter.describe(root)}"


def _among(settings: type[LaunchSettings], parameters: Sequence[ConfiguredParameter], root: Path) -> Iterator[str]:
    """Yield disagreements for names without a setting. Only keyword-only parameters are checked: others are not intended as settings."""
    first: dict[str, ConfiguredParameter] = {}
    for parameter in parameters:
        if (
            parameter.name in settings.__pydantic_fields__
            or parameter.parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        ):
            continue
        other = first.setdefault(parameter.name, parameter)
        if not (agree(other.kind, parameter.kind) or agree(parameter.kind, other.kind)):
            yield f"{parameter.name} is one name for two types: {other.describe(root)}, and {parameter.describe(root)}"


def _declared_at(settings: type[LaunchSettings], name: str, root: Path) -> str:
    owner = next(kind for kind in settings.__mro__ if name in vars(kind).get("__annotations__", {}))
    try:
        lines, first = inspect.getsourcelines(owner)
        file = Path(inspect.getfile(owner))
    except (OSError, TypeError):
        return owner.__qualname__
    matches = (index for index, line in enumerate(lines) if re.match(rf"\s+{name}\s*[:=]", line))
    return _location(file, first + next(matches, 0), root)


def _location(file: Path, line: int, root: Path) -> str:
    return f"{file.relative_to(root) if file.is_relative_to(root) else file.name}:{line}"
