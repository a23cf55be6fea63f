"""Convert a text or a document's value to a setting's type.

A value from a document (TOML, JSON, a record) is checked strictly: a number is not a string, `true` is not a number, 1 is not a
boolean; an int is accepted as a float. The validator can change a value without an error, such as 2.0 for `Literal[2]`, or an empty string
for a path. A setting must have exactly the value that was typed, so each such conversion is a fault. `trainer.settings.texts` parses texts
of the command line and of the environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

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
from trainer.settings.texts import RepeatedKeyError, candidates
from trainer.settings.type_kinds import members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


CONVERTED: Final = "converted"
INEXACT: Final = "inexact"
UNQUOTED: Final = "unquoted"
TOO_FINE: Final = "too_fine"
REPEATED: Final = "repeated"
REPEATED_KEY: Final = "repeated_key"
UNKNOWN_KEY: Final = "unknown_key"
_SECONDS: Final = re.compile(r"\s*[+-]?[\d._]+\s*")
"""A text that pydantic reads as seconds since 1970."""
_FINE: Final = re.compile(r"[.,]\d{7}")
"""A fraction finer than microseconds."""
_MOMENTS: Final = (date, time, timedelta)
_EXACT: Final = 15
"""Decimal digits that a 64-bit float preserves of any text."""


def fault(kind: str, value: object, *path: int | str) -> ErrorDetails:
    """Return a fault in the form of pydantic's own; `path` leads to `value` inside the setting's value."""
    return {"type": kind, "loc": ("value", *path), "msg": "", "input": value}


def conversions(annotation: Any, value: Any, result: Any) -> Iterator[ErrorDetails]:
    """Yield a fault for each part of `value` that the type changed; `result` is the validator's result."""
    is_unchanged = type(value) is type(result) and not isinstance(value, list | Mapping) and value == result
    if not is_unchanged:
        yield from _changes(value, result, (), kinds={*_kinds(annotation)})


def _kinds(annotation: Any) -> Iterator[type]:
    for kind in members(annotation):
        inner = get_args(kind)
        if isinstance(kind, type) and not inner and kind is not Any:
            yield kind
        for each in inner:
            yield from _kinds(each)


def _changes(value: Any, result: Any, path: tuple[int | str, ...], *, kinds: set[type]) -> Iterator[ErrorDetails]:
    result = result.value if isinstance(result, Enum) else result
    if isinstance(value, list) and isinstance(result, list | tuple):
        for number, (item, other) in enumerate(zip(value, result, strict=False)):
            yield from _changes(item, other, (*path, number), kinds=kinds)
    elif isinstance(value, list) and isinstance(result, set | frozenset):
        yield from _set_changes(value, result, path, kinds=kinds)
    elif isinstance(value, Mapping):
        yield from _table_changes(value, result, path, kinds=kinds)
    elif kind := _scalar_change(value, result, kinds=kinds):
        yield fault(kind, value, *path)


def _scalar_change(value: Any, result: Any, *, kinds: set[type]) -> str | None:
    if isinstance(value, bool | int | float) and isinstance(result, bool | int | float):
        is_cut = isinstance(value, float) and type(result) is int and float not in kinds
        if isinstance(value, bool) != isinstance(result, bool) or is_cut:
            return CONVERTED
        return INEXACT if isinstance(value, int) and isinstance(result, float) and value != result else None
    if isinstance(result, Decimal):
        return UNQUOTED if isinstance(value, float) and len(result.as_tuple().digits) > _EXACT else None
    if isinstance(value, _MOMENTS):
        is_text = not any(issubclass(kind, _MOMENTS) for kind in kinds) and isinstance(result, tuple(kinds - {object}))
        return CONVERTED if is_text else None
    if isinstance(result, _MOMENTS):
        return CONVERTED if _SECONDS.fullmatch(str(value)) else TOO_FINE if _FINE.search(str(value)) else None
    return CONVERTED if isinstance(result, PurePath) and value == "" else None


def _set_changes(
    value: list[Any], result: Any, path: tuple[int | str, ...], *, kinds: set[type]
) -> Iterator[ErrorDetails]:
    """Yield the changes of a set. A set has no order: an item is unchanged if the set contains an equal value."""
    if len(result) < len(value):
        repeated = next((item for number, item in enumerate(value) if item in value[:number]), value[-1])
        yield fault(REPEATED, repeated, *path)
        return
    for number, item in enumerate(value):
        equal = [each for each in result if (each.value if isinstance(each, Enum) else each) == item]
        changes = [[*_changes(item, other, (*path, number), kinds=kinds)] for other in equal or result]
        if changes and all(changes):
            yield changes[0][0]


def _table_changes(table: Any, result: Any, path: tuple[int | str, ...], *, kinds: set[type]) -> Iterator[ErrorDetails]:
    if isinstance(result, Mapping):
        if len(result) < len(table):
            keys = {*to_jsonable_python(dict.fromkeys(result))}
            yield fault(REPEATED_KEY, next((key for key in table if key not in keys), [*table][-1]), *path)
            return
        for (key, item), (other_key, other) in zip(table.items(), result.items(), strict=False):
            yield from _changes(key, other_key, (*path, key), kinds=kinds)
            yield from _changes(item, other, (*path, key), kinds=kinds)
        return
    names = _attribute_names(result)
    for key, item in table.items() if names else ():
        if key not in names:
            yield fault(UNKNOWN_KEY, key, *path)
        else:
            yield from _changes(item, getattr(result, names[key]), (*path, key), kinds=kinds)


def _attribute_names(instance: Any) -> dict[str, str]:
    """Map the input keys of a model, a dataclass or a named tuple to its attribute names; empty for any other object."""
    if isinstance(instance, BaseModel):
        fields, config = type(instance).__pydantic_fields__, instance.model_config
        aliased = {
            info.validation_alias: name for name, info in fields.items() if isinstance(info.validation_alias, str)
        }
        by_name = config.get("validate_by_name") or config.get("populate_by_name")
        names_of_fields = {*fields, *(instance.model_extra or {})}
        return {name: name for name in names_of_fields if by_name or name not in aliased.values()} | aliased
    names: Iterable[str] = getattr(instance, "_fields", ()) or getattr(instance, "__dataclass_fields__", ())
    return {name: name for name in names}


_BEFORE: Final = ("before", "wrap", "plain")
_CONVERTERS: Final = (BeforeValidator, PlainValidator, WrapValidator)
"""Validators that can convert a value: the author's code runs before or around pydantic's validation."""


class MisfitError(ValueError):
    """A value that a setting's type rejects; `faults` are the validator's."""

    def __init__(self, faults: Iterable[ErrorDetails]) -> None:
        """Store the faults that the validator found."""
        super().__init__("the type does not admit this value")
        self.faults = tuple(faults)


def is_flag(info: FieldInfo | None) -> bool:
    """Return whether this setting's option can stand alone: `--x`, `--no-x`."""
    return info is not None and {kind for kind in members(info.annotation) if kind is not type(None)} == {bool}


def typed_text(info: FieldInfo, text: str, *, checks_type: bool = True) -> Any:
    """Return the value of a text for this setting. Raise `MisfitError` if the setting's type accepts no value of the text.

    Set `checks_type` to false for a setting whose own validator runs before type conversion: it receives the text.
    """
    faults: list[ErrorDetails] = []
    for candidate in candidates(info, text):
        try:
            return typed_value(info, candidate)
        except MisfitError as misfit:
            faults += misfit.faults
    if checks_type:
        raise MisfitError(faults or [fault(CONVERTED, text)])
    return text


def typed_value(info: FieldInfo, value: Any) -> Any:
    """Return a document's value for this setting. Raise `MisfitError` if the setting's type does not accept it."""
    if isinstance(value, RepeatedKeyError):
        raise MisfitError([fault(REPEATED_KEY, value.key)])
    validator = _validator(_ValidatorKey(info)).__pydantic_validator__
    try:
        validator.validate_json(json.dumps({"value": value}, default=_date_as_json), strict=True)
        undated = _without_dates(value)
        result = validator.validate_python({"value": undated}).value  # in the form that the settings' class receives
    except ValidationError as misfit:
        raise MisfitError(misfit.errors(include_url=False)) from misfit
    except (TypeError, ValueError, RecursionError) as misfit:
        raise MisfitError([fault(CONVERTED, value)]) from misfit
    converts = any(isinstance(mark, _CONVERTERS) for mark in info.metadata)
    if changes := [] if converts else [*conversions(info.annotation, value, result)]:
        raise MisfitError(changes)
    return one_form(undated)


def typed_as(info: FieldInfo, value: Any) -> str | None:
    """Return a text whose value for this setting is `value`, as it would be typed; `None` if there is no such text."""
    undated = _without_dates(value)
    texts = [undated] if isinstance(undated, str) else []
    with suppress(ValueError, TypeError):
        texts.append(json.dumps(undated, default=_date_as_json))
    for text in texts:
        with suppress(MisfitError):
            result = typed_text(info, text)
            if result in (value, undated) and type(result) is type(undated):
                return text
    return None


def typed_default(info: FieldInfo) -> None:
    """Check a setting's default, which can be in any Python form. Raise `MisfitError` if the setting's type does not accept it."""
    if info.validate_default is False or info.default is PydanticUndefined or info.default is None:
        return  # a default of None was already validated by pydantic, and no converted value equals None
    try:
        result = (
            _validator(_ValidatorKey(info))
            .__pydantic_validator__.validate_python({"value": info.default}, strict=True)
            .value
        )
    except ValidationError as misfit:
        with suppress(ValueError):  # a list for a tuple, a date as text: any form that a document can have
            typed_value(info, to_jsonable_python(info.default))
            return
        raise MisfitError(misfit.errors(include_url=False)) from misfit
    if changes := [*conversions(info.annotation, info.default, result)]:
        raise MisfitError(changes)


def has_early_validator(settings: type[BaseModel], name: str) -> bool:
    """Return whether the class has a validator for this setting that runs before type conversion."""
    validators = settings.__pydantic_decorators__.field_validators.values()
    return any(
        each.info.mode in _BEFORE and ("*" in each.info.fields or name in each.info.fields) for each in validators
    ) or any(each.info.mode in _BEFORE for each in settings.__pydantic_decorators__.model_validators.values())


class _ValidatorKey:
    """A setting's type with its bounds; the cache key of its validator model."""

    def __init__(self, info: FieldInfo) -> None:
        self.annotation = info.annotation
        self.metadata = tuple(info.metadata)

    def __hash__(self) -> int:
        return hash(str(self.annotation))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _ValidatorKey)
            and (self.annotation is other.annotation or bool(self.annotation == other.annotation))
            and self.metadata == other.metadata
        )


@lru_cache(maxsize=512)
def _validator(kind: _ValidatorKey) -> Any:
    annotation: Any = Annotated[kind.annotation, *kind.metadata] if kind.metadata else kind.annotation
    config = ConfigDict(allow_inf_nan=False, extra="forbid")
    return create_model("Judge", __config__=config, value=(annotation, ...))


def _without_dates(value: Any) -> Any:
    """Return a document's value with TOML dates replaced by their text, the only form that a record has for them."""
    if isinstance(value, dict):
        return {key: _without_dates(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_dates(each) for each in value]
    return value.isoformat() if isinstance(value, date | time) else value


def _date_as_json(value: Any) -> str:
    """Return a TOML date or time in its JSON form; raise `TypeError` for anything else."""
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(type(value).__name__)
