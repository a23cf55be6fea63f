"""Fields of settings, their roles and origins, and `LaunchSettings`, the base class of all settings.

Each setting has one name, one type and one meaning in the whole program. The string below a field describes it. A field without a mark
affects the result. `Role.EXECUTION` marks a field that does not (a progress bar); `Role.LAUNCH` marks a field that must be known before
anything is imported, so an experiment cannot set it. `trainer.training.settings` defines the other fields; `trainer.settings.origins`
reads the origins.
"""

from __future__ import annotations

import ast
import linecache
import re
import sys
from contextlib import suppress
from contextvars import ContextVar
from enum import StrEnum
from inspect import cleandoc
from itertools import pairwise
from textwrap import dedent
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, PositiveInt, PrivateAttr, SecretStr, model_validator
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from trainer.base.errors import ExperimentError
from trainer.settings.canonical_forms import document_of, holds_set, one_form, one_number
from trainer.settings.declarations import require_fields, require_names, undocumentable
from trainer.settings.determinism import Level
from trainer.settings.type_kinds import members
from trainer.settings.variables import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Self

    from pydantic import JsonValue
    from pydantic._internal._model_construction import ModelMetaclass
    from pydantic.fields import FieldInfo
else:
    ModelMetaclass = type(BaseSettings)  # the metaclass has no public name

_PACKAGE: Final = ("trainer.settings.fields", "trainer.training.")
RETEST: Final = "REPRISE_RETEST"
"""Environment variable with the original run of a rerun, whose settings are read from the original run's record."""
PURPOSE: Final = "REPRISE_PURPOSE"
"""Environment variable with the name of the command that started this run, if it is `certify` or `noise`."""
CONFINED: Final = "REPRISE_CONFINED"
"""Environment variable set in an untrusted container: the launcher asked for trust before start; the container cannot reach the register.
"""


class Role(StrEnum):
    """What a setting affects."""

    RESULT = "result"
    """The result: the setting is an input of the run."""
    EXECUTION = "execution"
    """Only how the run is executed and shown."""
    LAUNCH = "launch"
    """The process itself: read before torch or the experiment is imported."""


class Origin(StrEnum):
    """Where a value comes from; a later origin overrides an earlier origin."""

    DEFAULT = "default"
    EXPERIMENT = "experiment"
    FILE = "file"
    ENVIRONMENT = "environment"
    RECORD = "record"
    COMMAND_LINE = "command line"

    @property
    def is_given(self) -> bool:
        """Return whether the user set this value for this run, rather than an author in advance."""
        return self in {Origin.FILE, Origin.ENVIRONMENT, Origin.COMMAND_LINE}


GIVEN: Final = frozenset(origin for origin in Origin if origin.is_given) | {Origin.RECORD}
"""Origins of a value that was given to this run, or to the run that it reruns."""


class SettingAccess(NamedTuple):
    """One attribute access of a setting: the setting, and the place in the code."""

    name: str
    function: str
    file: str
    line: int


class OriginSource(PydanticBaseSettingsSource):
    """Values of one origin, parsed and with known names; `phrase` describes the origin in messages."""

    def __init__(self, settings: type[LaunchSettings], origin: Origin, values: dict[str, Any], *, phrase: str) -> None:
        """Store `values` of `origin` for `settings`."""
        super().__init__(settings)
        self.origin = origin
        self.values = values
        self.passed = values
        """The valid values."""
        self.phrase = phrase

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - pydantic-settings' signature
        """Return the value of one field, if this origin has it."""
        return self.passed.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all values of this origin."""
        return dict(self.passed)


given: ContextVar[tuple[OriginSource, ...]] = ContextVar("given", default=())
"""The sources of the settings under construction, highest priority first."""


def role_of(info: FieldInfo) -> Role:
    """Return a field's role; a secret never affects a result."""
    marks = [mark for mark in info.metadata if isinstance(mark, Role)]
    if marks:
        return marks[0]
    return Role.EXECUTION if is_secret(info) else Role.RESULT


def is_secret(info: FieldInfo) -> bool:
    """Return whether a field is a secret, which is never written."""
    return "SecretStr" in str(info.annotation)


def _fields_of(bases: tuple[type, ...]) -> dict[str, FieldInfo]:
    merged: dict[str, FieldInfo] = {}
    for base in reversed(bases):
        merged |= getattr(base, "__pydantic_fields__", {})
    return merged


def _launch_overridden(name: str, *, module: str) -> ExperimentError:
    option = name.replace("_", "-")
    return ExperimentError(
        f"experiment {module} sets {name}, which must be known before any experiment is imported",
        hint=f"use --{option}, {name} in a settings file, or {ENVIRONMENT_PREFIX}{name.upper()}",
    )


class _Inheriting(ModelMetaclass):
    """Metaclass that lets an experiment write `learning_rate = 3e-4`: the field keeps its type, bounds, mark and description."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        annotations: dict[str, Any] = namespace.setdefault("__annotations__", {})
        frame = sys._getframe(1)  # noqa: SLF001 - the frame in which the class is defined
        require_names(bases, namespace, _fields_of(bases), frame)
        for field, info in _fields_of(bases).items():
            if field not in namespace and field not in annotations:
                continue
            if role_of(info) is Role.LAUNCH:
                raise _launch_overridden(field, module=namespace.get("__module__", "?"))
            if field not in annotations:
                annotations[field] = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
                namespace[field] = Field(default=namespace[field], description=info.description)
        ours = str(namespace.get("__module__")).startswith(_PACKAGE)
        # Validators of the package's own classes are built on first use: a command uses only one of these classes.
        options.setdefault("defer_build", ours)
        try:
            made: Any = super().__new__(mcs, name, bases, namespace, **options)
        except PydanticSchemaGenerationError as fault:
            raise undocumentable(fault, annotations, frame) from fault
        if not ours:  # a test checks the package's own classes
            require_fields(made.__pydantic_fields__, frame)
        # A class that is created by a call, without a class statement, has no docstrings.
        for field, text in (_docstrings(frame, name) if "__qualname__" in namespace else {}).items():
            info = made.__pydantic_fields__.get(field)
            if info is not None and info.description is None:
                info.description = text
        return made


def _docstrings(frame: FrameType, name: str) -> dict[str, str]:
    """Return the strings below the fields of the class `name` that this frame defines.

    Pydantic's own option tokenizes each class in Python, which takes longer than everything else that a command line does with settings.
    """
    return {
        field: cleandoc(text)
        for above, below in pairwise(_class_body(linecache.getlines(frame.f_code.co_filename), name, frame.f_lineno))
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr)
        for field, text in [(above.target.id, getattr(below.value, "value", None))]
        if isinstance(text, str)
    }


def _class_body(lines: list[str], name: str, line: int) -> list[ast.stmt]:
    """Return the statements of the class `name` that begins at or before a line (from 1), parsed without the rest of its file."""
    header = re.compile(rf"(\s*)class\s+{re.escape(name)}\b")
    for start in range(min(line, len(lines)) - 1, -1, -1):
        if found := header.match(lines[start]):
            break
    else:
        return []  # the file was edited after it was imported
    outside = re.compile(rf"(?!{found[1]}[ \t])\s*[^\s#]")
    ends = [index for index in range(start + 1, len(lines)) if outside.match(lines[index])]
    for end in [*ends, len(lines)]:
        with suppress(SyntaxError):  # a line inside the class, such as the `)` of its header, can begin at the margin
            [parsed] = ast.parse(dedent("".join(lines[start:end]))).body
            return parsed.body if isinstance(parsed, ast.ClassDef) else []
    return []


class LaunchSettings(BaseSettings, metaclass=_Inheriting):
    """Settings that the launcher needs before it starts the training process; the base class of all settings.

    Instances are frozen. Each attribute access is reported to the ledger, with the location of the code.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
        arbitrary_types_allowed=False,
    )

    determinism: Annotated[Level, Role.LAUNCH] = Level.MACHINE
    """Where a rerun is bit-identical: `off` (nowhere), `machine` (same hardware and image), `portable` (any x86-64 CPU; slower)."""
    threads: Annotated[PositiveInt | None, Role.LAUNCH] = None
    """CPU threads per operation (default: 2; 1 with `--determinism portable`). Changes the bits of a result."""
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Role.LAUNCH] = "auto"
    """Device to train on. `auto`: a GPU if the machine has one; an error if this image cannot use it."""
    devices: Annotated[PositiveInt, Role.LAUNCH] = 1
    """Total number of devices on all machines, each with its own process. If `--shards` is set, this number does not affect results."""
    shards: Annotated[PositiveInt | None, Role.LAUNCH] = None
    """Parts of each batch with their own seeds, summed in a fixed order (default: one for each device). Changes the bits of a result."""
    strategy: Annotated[Literal["fsdp"] | None, Role.LAUNCH] = None
    """`fsdp`: each device keeps a part of the parameters (default: all parameters). The result then depends on the number of devices."""
    environment: Annotated[str | None, Role.LAUNCH] = None
    """Environment to run in (default: that of the image; on the host, that of `.env`)."""

    _reader: Callable[[SettingAccess], None] | None = PrivateAttr(default=None)
    _earlier: dict[SettingAccess, None] = PrivateAttr(default_factory=dict)
    """Accesses before a reader is attached, e.g. the dataset is opened before the run has a ledger."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the values from `given`; constructor arguments override them, as tests and notebooks expect."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings, *given.get())

    if not TYPE_CHECKING:  # otherwise a misspelled attribute would pass the type checker

        def __getattribute__(self, name: str) -> Any:
            """Return the attribute, and report the access to the ledger."""
            value = super().__getattribute__(name)
            if name[:1] != "_" and name in type(self).__pydantic_fields__:
                private = object.__getattribute__(self, "__pydantic_private__") or {}
                frame = sys._getframe(1)  # noqa: SLF001 - the ledger keeps the reader's place
                code = frame.f_code
                access = SettingAccess(name, code.co_qualname, code.co_filename, frame.f_lineno)
                if reader := private.get("_reader"):
                    reader(access)
                elif (earlier := private.get("_earlier")) is not None:
                    earlier[access] = None
            return value

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        for name, info in type(self).__pydantic_fields__.items():
            self.__dict__[name] = one_number(one_form(self.__dict__[name]), members(info.annotation))
        return self

    def observe(self, reader: Callable[[SettingAccess], None]) -> None:
        """Report every attribute access to `reader`: earlier accesses now, later accesses as they happen."""
        self._reader = reader
        for access in self._earlier:
            reader(access)

    def value_of(self, name: str) -> Any:
        """Return a setting's value without recording an access."""
        return self.__dict__[name]


def roles(settings: type[LaunchSettings]) -> dict[str, Role]:
    """Return the role of each setting; a field that an experiment redeclares keeps the mark of the overridden field."""
    result: dict[str, Role] = {}
    for kind in reversed([kind for kind in settings.__mro__ if issubclass(kind, LaunchSettings)]):
        for name, info in kind.__pydantic_fields__.items():
            role = role_of(info)
            result[name] = role if role is not Role.RESULT else result.get(name, role)
    return result


def is_new(settings: type[LaunchSettings], name: str) -> bool:
    """Return whether the experiment itself defines a setting, rather than the package."""
    declared = _declaring_classes(settings, name)
    return bool(declared) and not declared[-1].__module__.startswith(_PACKAGE)


def author_of(settings: type[LaunchSettings], name: str) -> Origin:
    """Return whose default a setting has: the package's, or the experiment's override."""
    declared = _declaring_classes(settings, name)
    return Origin.EXPERIMENT if len(declared) > 1 and not is_package_default(settings, name) else Origin.DEFAULT


def is_package_default(settings: type[LaunchSettings], name: str) -> bool:
    """Return whether a setting has the type and the default of a class of this package."""
    return _declaring_classes(settings, name)[0].__module__.startswith(_PACKAGE)


def _declaring_classes(settings: type[LaunchSettings], name: str) -> list[type]:
    """Return the classes that annotate a setting, the nearest first."""
    return [kind for kind in settings.__mro__ if name in vars(kind).get("__annotations__", {})]


def settings_document(settings: LaunchSettings, names: Iterable[str] | None = None) -> dict[str, JsonValue]:
    """Return values as a document holds them, without secrets and without recording an access."""
    kinds = type(settings).__pydantic_fields__
    included = {name for name in (kinds if names is None else names) if not is_secret(kinds[name])}
    values: dict[str, JsonValue] = settings.model_dump(
        mode="json", include=included, by_alias=True, round_trip=True, warnings=False
    )
    sets = {name: settings.value_of(name) for name in included if holds_set(settings.value_of(name))}
    return values | {name: document_of(value) for name, value in sets.items()}


__all__ = ["LaunchSettings", "Level", "Origin", "OriginSource", "Role", "SecretStr"]
