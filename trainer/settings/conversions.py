"""Detect silent conversions: a type changes a document's value, e.g. 2.0 for `Literal[2]`, or an empty text for a path.

The validator converts without an error. A setting must have exactly the value that was typed, so each conversion is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from trainer.settings.type_kinds import members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    """Return a fault in the form of pydantic's own; `place` is the path to `wrong` inside the value."""
    return {"type": kind, "loc": ("value", *place), "msg": "", "input": wrong}


def conversions(annotation: Any, given: Any, found: Any) -> Iterator[ErrorDetails]:
    """Yield a fault for each part of `given` that the type changed; `found` is the validator's result."""
    is_given = type(given) is type(found) and not isinstance(given, list | Mapping) and given == found
    if not is_given:
        yield from _changes(given, found, (), kinds={*_kinds(annotation)})


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the types that a type contains, at any depth."""
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
    """Return the kind of change of a scalar value, or `None`."""
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
        yield fault(REPEATED, _repeated(given), *place)
        return
    for number, one in enumerate(given):
        equal = [each for each in found if (each.value if isinstance(each, Enum) else each) == one]
        changes = [[*_changes(one, other, (*place, number), kinds=kinds)] for other in equal or found]
        if changes and all(changes):
            yield changes[0][0]


def _repeated(given: list[Any]) -> Any:
    return next((one for number, one in enumerate(given) if one in given[:number]), given[-1])


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
