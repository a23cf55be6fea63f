"""Convert a text or a document's value to a setting's type.

A value from a document (TOML, JSON, a record) is checked strictly: a number is not a string, `true` is not a number, 1 is not a
boolean; an int is accepted as a float. Silent conversions of the type are rejected (`trainer.settings.conversions`).
`trainer.settings.texts` parses texts of the command line and of the environment.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date, time
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    ValidationError,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticUndefined, to_jsonable_python

from trainer.settings.canonical_forms import one_form
from trainer.settings.conversions import CONVERTED, REPEATED_KEY, conversions, fault
from trainer.settings.texts import RepeatedKeyError, candidates
from trainer.settings.type_kinds import members

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_BEFORE: Final = ("before", "wrap", "plain")
_CONVERTERS: Final = (BeforeValidator, PlainValidator, WrapValidator)
"""Validators with which the author converts values."""


class MisfitError(ValueError):
    """A value that a setting's type rejects; `faults` are the validator's."""

    def __init__(self, faults: Iterable[ErrorDetails]) -> None:
        """Store the validator's faults."""
        super().__init__("the type does not admit this value")
        self.faults = tuple(faults)


def is_flag(info: FieldInfo | None) -> bool:
    """Return whether this setting's option can stand alone: `--x`, `--no-x`."""
    return info is not None and {kind for kind in members(info.annotation) if kind is not type(None)} == {bool}


def typed_text(info: FieldInfo, text: str, *, judges: bool = True) -> Any:
    """Return the value of a text for this setting. Raise `MisfitError`.

    Set `judges` to false for a setting whose own validator runs before type conversion: it receives the text.
    """
    faults: list[ErrorDetails] = []
    for candidate in candidates(info, text):
        try:
            return typed_value(info, candidate)
        except MisfitError as misfit:
            faults += misfit.faults
    if judges:
        raise MisfitError(faults or [fault(CONVERTED, text)])
    return text


def typed_value(info: FieldInfo, value: Any) -> Any:
    """Return a document's value if the setting's type accepts it. Raise `MisfitError`."""
    if isinstance(value, RepeatedKeyError):
        raise MisfitError([fault(REPEATED_KEY, value.key)])
    judge = _judge(_Kind(info)).__pydantic_validator__
    try:
        judge.validate_json(json.dumps({"value": value}, default=_written_out), strict=True)
        plain = _undated(value)
        found = judge.validate_python({"value": plain}).value  # in the form that the settings' class receives
    except ValidationError as misfit:
        raise MisfitError(misfit.errors(include_url=False)) from misfit
    except (TypeError, ValueError, RecursionError) as misfit:
        raise MisfitError([fault(CONVERTED, value)]) from misfit
    converts = any(isinstance(mark, _CONVERTERS) for mark in info.metadata)
    if changes := [] if converts else [*conversions(info.annotation, value, found)]:
        raise MisfitError(changes)
    return one_form(plain)


def typed_as(info: FieldInfo, value: Any) -> str | None:
    """Return a text whose value for this setting is `value`, as it would be typed; `None` if there is no such text."""
    plain = _undated(value)
    texts = [plain] if isinstance(plain, str) else []
    with suppress(ValueError, TypeError):
        texts.append(json.dumps(plain, default=_written_out))
    for text in texts:
        with suppress(MisfitError):
            found = typed_text(info, text)
            if found in (value, plain) and type(found) is type(plain):
                return text
    return None


def typed_default(info: FieldInfo) -> None:
    """Check a setting's default, which can be in any Python form. Raise `MisfitError`."""
    if info.validate_default is False or info.default is PydanticUndefined or info.default is None:
        return  # None: pydantic checks it itself, and nothing else is equal to it
    try:
        found = _judge(_Kind(info)).__pydantic_validator__.validate_python({"value": info.default}, strict=True).value
    except ValidationError as misfit:
        with suppress(ValueError):  # a list for a tuple, a date as text: any form that a document can have
            typed_value(info, to_jsonable_python(info.default))
            return
        raise MisfitError(misfit.errors(include_url=False)) from misfit
    if changes := [*conversions(info.annotation, info.default, found)]:
        raise MisfitError(changes)


def judged_by_itself(settings: type[BaseModel], name: str) -> bool:
    """Return whether the class has a validator for this setting that runs before type conversion."""
    found = settings.__pydantic_decorators__.field_validators.values()
    return any(
        each.info.mode in _BEFORE and ("*" in each.info.fields or name in each.info.fields) for each in found
    ) or any(each.info.mode in _BEFORE for each in settings.__pydantic_decorators__.model_validators.values())


class _Kind:
    """A setting's type with its bounds; the cache key of its validator model."""

    def __init__(self, info: FieldInfo) -> None:
        self.annotation = info.annotation
        self.metadata = tuple(info.metadata)

    def __hash__(self) -> int:
        return hash(str(self.annotation))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Kind)
            and (self.annotation is other.annotation or bool(self.annotation == other.annotation))
            and self.metadata == other.metadata
        )


@lru_cache(maxsize=512)
def _judge(kind: _Kind) -> Any:
    """Return a model with one field of this type."""
    annotation: Any = Annotated[kind.annotation, *kind.metadata] if kind.metadata else kind.annotation
    config = ConfigDict(allow_inf_nan=False, extra="forbid")
    return create_model("Judge", __config__=config, value=(annotation, ...))


def _undated(value: Any) -> Any:
    """Return a document's value with TOML dates replaced by their text, the only form that a record has for them."""
    if isinstance(value, dict):
        return {key: _undated(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_undated(each) for each in value]
    return value.isoformat() if isinstance(value, date | time) else value


def _written_out(value: Any) -> str:
    """Return a TOML date or time in its JSON form; raise `TypeError` for anything else."""
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(type(value).__name__)
