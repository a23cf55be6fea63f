"""Convert a text or a document's value to a setting's type.

A value from a document (TOML, JSON, a record) is checked strictly: a number is not a string, `true` is not a number, 1 is not a
boolean; an int is accepted as a float. The validator can change a value without an error, e.g. 2.0 for `Literal[2]`, or an empty text for a
path: a setting must have exactly the value that was typed, so each such conversion is a fault. `trainer.settings.texts` parses texts of the
command line and of the environment.
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


def fault(kind: str, wrong: object, *place: int | str) -> ErrorDetails:
    """Return an error in the format of pydantic's `ErrorDetails`; `place` is the path to `wrong` inside the value."""
    return {"type": kind, "loc": ("value", *place), "msg": "", "input": wrong}


def conversions(annotation: Any, given: Any, found: Any) -> Iterator[ErrorDetails]:
    """Yield a fault for each part of `given` that the type changed; `found` is the validator's result."""
    is_given = type(given) is type(found) and not isinstance(given, list | Mapping) and given == found
    if not is_given:
        yield from _changes(given, found, (), kinds={*_kinds(annotation)})


def _kinds(annotation: Any) -> Iterator[type]:
    for kind in members(annotation):
        inner = get_args(kind)
        if isinstance(kind, type) and not inner and kind is not Any:
            yield kind
        for each in inner:
            yield from _kinds(each)


def _changes(given: Any, found: Any, place: tuple[int | str, ...], *, kinds: set[type]) -> Iterator[ErrorDetails]:
    found = found.value if isinstance(found, Enum) else found
    if isinstance(given, list) and isinstance(found, list | tuple):
        for number, (one, other) in enumerate(zip(given, found, strict=False)):
            yield from _changes(one, other, (*place, number), kinds=kinds)
    elif isinstance(given, list) and isinstance(found, set | frozenset):
        yield from _in_set(given, found, place, kinds=kinds)
    elif isinstance(given, Mapping):
        yield from _in_table(given, found, place, kinds=kinds)
    elif kind := _of_one(given, found, kinds=kinds):
        yield fault(kind, given, *place)


def _of_one(given: Any, found: Any, *, kinds: set[type]) -> str | None:
    if isinstance(given, bool | int | float) and isinstance(found, bool | int | float):
        is_cut = isinstance(given, float) and type(found) is int and float not in kinds
        if isinstance(given, bool) != isinstance(found, bool) or is_cut:
            return CONVERTED
        return INEXACT if isinstance(given, int) and isinstance(found, float) and given != found else None
    if isinstance(found, Decimal):
        return UNQUOTED if isinstance(given, float) and len(found.as_tuple().digits) > _EXACT else None
    if isinstance(given, _MOMENTS):
        is_text = not any(issubclass(kind, _MOMENTS) for kind in kinds) and isinstance(found, tuple(kinds - {object}))
        return CONVERTED if is_text else None
    if isinstance(found, _MOMENTS):
        return CONVERTED if _SECONDS.fullmatch(str(given)) else TOO_FINE if _FINE.search(str(given)) else None
    return CONVERTED if isinstance(found, PurePath) and given == "" else None


def _in_set(given: list[Any], found: Any, place: tuple[int | str, ...], *, kinds: set[type]) -> Iterator[ErrorDetails]:
    """Yield the changes of a set. A set has no order: an item is unchanged if the set contains an equal value."""
    if len(found) < len(given):
        repeated = next((one for number, one in enumerate(given) if one in given[:number]), given[-1])
        yield fault(REPEATED, repeated, *place)
        return
    for number, one in enumerate(given):
        equal = [each for each in found if (each.value if isinstance(each, Enum) else each) == one]
        changes = [[*_changes(one, other, (*place, number), kinds=kinds)] for other in equal or found]
        if changes and all(changes):
            yield changes[0][0]


def _in_table(given: Any, found: Any, place: tuple[int | str, ...], *, kinds: set[type]) -> Iterator[ErrorDetails]:
    if isinstance(found, Mapping):
        if len(found) < len(given):
            kept = {*to_jsonable_python(dict.fromkeys(found))}
            yield fault(REPEATED_KEY, next((key for key in given if key not in kept), [*given][-1]), *place)
            return
        for (key, value), (other_key, other) in zip(given.items(), found.items(), strict=False):
            yield from _changes(key, other_key, (*place, key), kinds=kinds)
            yield from _changes(value, other, (*place, key), kinds=kinds)
        return
    names = _names_of(found)
    for key, value in given.items() if names else ():
        if key not in names:
            yield fault(UNKNOWN_KEY, key, *place)
        else:
            yield from _changes(value, getattr(found, names[key]), (*place, key), kinds=kinds)


def _names_of(found: Any) -> dict[str, str]:
    """Map the input keys of a model, a dataclass or a named tuple to its attribute names; empty for any other object."""
    if isinstance(found, BaseModel):
        fields, config = type(found).__pydantic_fields__, found.model_config
        aliased = {
            info.validation_alias: name for name, info in fields.items() if isinstance(info.validation_alias, str)
        }
        by_name = config.get("validate_by_name") or config.get("populate_by_name")
        named = {*fields, *(found.model_extra or {})}
        return {name: name for name in named if by_name or name not in aliased.values()} | aliased
    names: Iterable[str] = getattr(found, "_fields", ()) or getattr(found, "__dataclass_fields__", ())
    return {name: name for name in names}


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
