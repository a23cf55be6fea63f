"""Settings: every value an experiment can be given, each with one name, one type and one meaning in the whole program.

Knows what a field may be marked as, how an experiment overrides a default, and which origin wins. Refuses to know which settings
there are beyond those of the launch (`trainer.training.settings` does) and how an origin is read (`trainer.settings.origins` does).

A field is described by the text under it. What is not marked bears on the result. `Role.EXECUTION` marks what does not (a progress
bar); `Role.LAUNCH` what must be known before anything is imported, so that no experiment can set it.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, PositiveInt, PrivateAttr, SecretStr, model_validator
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from trainer.base.errors import ExperimentError
from trainer.settings.canonical_forms import document_of, holds_set, one_form, one_number
from trainer.settings.declarations import require_fields, require_names, undocumentable
from trainer.settings.determinism import Level
from trainer.settings.type_kinds import members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from pydantic import JsonValue
    from pydantic._internal._model_construction import ModelMetaclass
    from pydantic.fields import FieldInfo
else:
    ModelMetaclass = type(BaseSettings)  # it has no public name

_PACKAGE: Final = ("trainer.settings.fields", "trainer.training.")
ENVIRONMENT_PREFIX: Final = "REPRISE_SETTING_"
RETEST: Final = "REPRISE_RETEST"
"""Names the run that this one is a retest of: what is given then comes from that run's record."""
PURPOSE: Final = "REPRISE_PURPOSE"
"""Set by a command that trains for itself, to its name: `certify`, `noise`."""
CONFINED: Final = "REPRISE_CONFINED"
"""Set in a container that is trusted with nothing: the user was asked before it was started, and it cannot reach the register."""


class Role(StrEnum):
    """What a setting bears on."""

    RESULT = "result"
    """The result: an ingredient of the run."""
    EXECUTION = "execution"
    """Only how the run is executed and shown."""
    LAUNCH = "launch"
    """The process itself: read before torch or the experiment is imported."""


class Origin(StrEnum):
    """Where a value came from; a later one wins over an earlier one."""

    DEFAULT = "default"
    EXPERIMENT = "experiment"
    FILE = "file"
    ENVIRONMENT = "environment"
    RECORD = "record"
    COMMAND_LINE = "command line"

    @property
    def is_given(self) -> bool:
        """Whether somebody asked for this value in this run, rather than a program's author beforehand."""
        return self in {Origin.FILE, Origin.ENVIRONMENT, Origin.COMMAND_LINE}


GIVEN: Final = frozenset(origin for origin in Origin if origin.is_given) | {Origin.RECORD}
"""Origins of a value that was given to this run, or to the one that it repeats."""


class Access(NamedTuple):
    """One attribute access of a setting: which setting, and the place in the code."""

    name: str
    function: str
    file: str
    line: int


class Source(PydanticBaseSettingsSource):
    """One origin's values, already read and every name known; `where` says in a message how each was given."""

    def __init__(self, settings: type[LaunchSettings], origin: Origin, values: dict[str, Any], *, where: str) -> None:
        """Hold `values` of `origin` for `settings`."""
        super().__init__(settings)
        self.origin = origin
        self.values = values
        self.passed = values
        """Those that are right."""
        self.where = where

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - pydantic-settings' signature
        """Give the value of one field, if this origin has it."""
        return self.passed.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Give every value of this origin."""
        return dict(self.passed)


given: ContextVar[tuple[Source, ...]] = ContextVar("given", default=())
"""The sources of the settings that are being made, the one that wins first."""


def role_of(info: FieldInfo) -> Role:
    """Tell what a field bears on; secrets never bear on a result."""
    marks = [mark for mark in info.metadata if isinstance(mark, Role)]
    if marks:
        return marks[0]
    return Role.EXECUTION if is_secret(info) else Role.RESULT


def is_secret(info: FieldInfo) -> bool:
    """Tell whether a field holds a secret, which is never written anywhere."""
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
        hint=f"give --{option}, {name} in a settings file, or {ENVIRONMENT_PREFIX}{name.upper()}",
    )


class _Inheriting(ModelMetaclass):
    """Lets an experiment write `learning_rate = 3e-4`: type, bounds, mark and meaning stay those of the overridden field."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        annotations: dict[str, Any] = namespace.setdefault("__annotations__", {})
        frame = sys._getframe(1)  # noqa: SLF001 - the frame in which the class is written
        require_names(bases, namespace, _fields_of(bases), frame)
        for field, info in _fields_of(bases).items():
            if field not in namespace and field not in annotations:
                continue
            if role_of(info) is Role.LAUNCH:
                raise _launch_overridden(field, module=namespace.get("__module__", "?"))
            if field not in annotations:
                annotations[field] = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
                namespace[field] = Field(default=namespace[field], description=info.description)
        try:
            made: Any = super().__new__(mcs, name, bases, namespace, **options)
        except PydanticSchemaGenerationError as fault:
            raise undocumentable(fault, annotations, frame) from fault
        require_fields(made.__pydantic_fields__, frame)
        return made


class LaunchSettings(BaseSettings, metaclass=_Inheriting):
    """What the launcher must know before it starts the training process; the base of all settings.

    Frozen. Every attribute that is read is told to the ledger, with the place that read it.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        arbitrary_types_allowed=False,
    )

    determinism: Annotated[Level, Role.LAUNCH] = Level.MACHINE
    """Where a rerun gives identical bits: `off` (nowhere), `machine` (same hardware and image), `portable` (any x86-64 CPU; slower)."""
    threads: Annotated[PositiveInt | None, Role.LAUNCH] = None
    """CPU threads of one operation. Default: 2, or 1 at determinism `portable`. Changes the bits of a result."""
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Role.LAUNCH] = "auto"
    """Device to train on. `auto`: a GPU if the machine has one; an error if this image cannot use it."""
    devices: Annotated[PositiveInt, Role.LAUNCH] = 1
    """Number of devices, each with its own process; they share the batch."""
    environment: Annotated[str | None, Role.LAUNCH] = None
    """Environment to run in. Default: the environment of this image, or the environment in .env on the host."""

    _reader: Callable[[Access], None] | None = PrivateAttr(default=None)
    _earlier: dict[Access, None] = PrivateAttr(default_factory=dict)
    """Accesses before there was a reader: the dataset, for one, is opened before the run has a ledger."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the values from `given`; what the constructor is called with wins, as a test or a notebook expects."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings, *given.get())

    if not TYPE_CHECKING:  # or a misspelt attribute would pass the type checker

        def __getattribute__(self, name: str) -> Any:
            """Give the attribute, and tell the ledger who read it."""
            value = super().__getattribute__(name)
            if name[:1] != "_" and name in type(self).__pydantic_fields__:
                private = object.__getattribute__(self, "__pydantic_private__") or {}
                frame = sys._getframe(1)  # noqa: SLF001 - the reader's place is what the ledger keeps
                code = frame.f_code
                access = Access(name, code.co_qualname, code.co_filename, frame.f_lineno)
                if reader := private.get("_reader"):
                    reader(access)
                elif (earlier := private.get("_earlier")) is not None:
                    earlier[access] = None
            return value

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        """Keep each value in the one form that all equal values have."""
        for name, info in type(self).__pydantic_fields__.items():
            self.__dict__[name] = one_number(one_form(self.__dict__[name]), members(info.annotation))
        return self

    def observe(self, reader: Callable[[Access], None]) -> None:
        """Report every attribute access to `reader`: those before this call, and all from now on."""
        self._reader = reader
        for access in self._earlier:
            reader(access)

    def value_of(self, name: str) -> Any:
        """Give a setting's value without counting as a reader of it."""
        return self.__dict__[name]


def roles(settings: type[LaunchSettings]) -> dict[str, Role]:
    """Tell the role of each setting; a field that an experiment annotates anew keeps the mark of the one it overrides."""
    found: dict[str, Role] = {}
    for kind in reversed([kind for kind in settings.__mro__ if issubclass(kind, LaunchSettings)]):
        for name, info in kind.__pydantic_fields__.items():
            role = role_of(info)
            found[name] = role if role is not Role.RESULT else found.get(name, role)
    return found


def is_new(settings: type[LaunchSettings], name: str) -> bool:
    """Tell whether a setting is the experiment's own, rather than one of the package's that it may override."""
    declared = [kind for kind in settings.__mro__ if name in vars(kind).get("__annotations__", {})]
    return bool(declared) and not declared[-1].__module__.startswith(_PACKAGE)


def author_of(settings: type[LaunchSettings], name: str) -> Origin:
    """Tell whose default a setting has: the package's, or the experiment's in place of it."""
    declared = [kind for kind in settings.__mro__ if name in vars(kind).get("__annotations__", {})]
    ours = declared[0].__module__.startswith(_PACKAGE)
    return Origin.EXPERIMENT if len(declared) > 1 and not ours else Origin.DEFAULT


def written(settings: LaunchSettings, names: Iterable[str] | None = None) -> dict[str, JsonValue]:
    """Write values as a document holds them, without secrets and without counting as a reader."""
    kinds = type(settings).__pydantic_fields__
    kept = {name for name in (kinds if names is None else names) if not is_secret(kinds[name])}
    values: dict[str, JsonValue] = settings.model_dump(
        mode="json", include=kept, by_alias=True, round_trip=True, warnings=False
    )
    sets = {name: settings.value_of(name) for name in kept if holds_set(settings.value_of(name))}
    return values | {name: document_of(value) for name, value in sets.items()}


__all__ = ["LaunchSettings", "Level", "Origin", "Role", "SecretStr", "Source"]
