"""Inspect a setting's type: the types of a union, its choices, whether it is a list or a table, and whether two types agree.

`agree` checks whether a value of one declared type can be passed where another type is declared under the same name. Types that cannot be
compared agree, because a false alarm would stop a valid run. A union with `None` agrees, and so does a wider type with a narrower type.

| declared | taken as | agree |
|---|---|---|
| `PositiveInt` | `int`, `float`, `int | None` | yes: bounds and `None` do not count, a float takes an int |
| `float` | `int` | no |
| `Literal["a", "b"]` | `str` | yes |
| `list[int]` | `Sequence[int]` | yes |
| `list[int]` | `int` | no |
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as dataclass_fields
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, Union, get_args, get_origin, get_type_hints


class Key(NamedTuple):
    """A key of a table with fixed keys."""

    name: str
    annotation: Any
    is_required: bool


def members(annotation: Any) -> list[Any]:
    """Return the types of a union, each without its bounds; a single type is returned as a list of one.

    >>> members(int | None), members(Annotated[float, "bound"])
    ([<class 'int'>, <class 'NoneType'>], [<class 'float'>])
    """
    kind = annotation
    while get_origin(kind) is Annotated or isinstance(kind, NewType):
        kind = kind.__supertype__ if isinstance(kind, NewType) else get_args(kind)[0]
    if get_origin(kind) in {Union, UnionType}:
        return [member for each in get_args(kind) for member in members(each)]
    return [NoneType if kind is None else kind]


def choices(kind: Any) -> list[Any] | None:
    """Return the values of a `Literal` or an enumeration; `None` for another type.

    >>> choices(Literal[1, "a"]), choices(int)
    ([1, 'a'], None)
    """
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [each.value for each in kind] if isinstance(kind, type) and issubclass(kind, Enum) else None


def is_table(kind: Any) -> bool:
    """Return whether a document represents this type as a table."""
    base = get_origin(kind) or kind
    return isinstance(base, type) and (issubclass(base, Mapping) or has_keys(base))


def has_keys(kind: Any) -> bool:
    """Return whether this type is a table with fixed keys: a model, a dataclass, a `TypedDict`."""
    marked = hasattr(kind, "__pydantic_fields__") or hasattr(kind, "__required_keys__")
    return isinstance(kind, type) and (marked or is_dataclass(kind))


def keys_of(kind: Any) -> list[Key]:
    """Return the keys of a table with fixed keys."""
    if hasattr(kind, "__pydantic_fields__"):
        fields = kind.__pydantic_fields__.items()
        return [Key(info.alias or name, info.annotation, info.is_required()) for name, info in fields]
    hints = get_type_hints(kind)
    if hasattr(kind, "__required_keys__"):
        return [Key(name, hint, name in kind.__required_keys__) for name, hint in hints.items()]
    required = {each.name for each in dataclass_fields(kind) if each.default is each.default_factory is MISSING}
    return [Key(each.name, hints[each.name], each.name in required) for each in dataclass_fields(kind)]


def is_list(kind: Any) -> bool:
    """Return whether a document represents this type as a list."""
    base = get_origin(kind) or kind
    if not isinstance(base, type) or issubclass(base, str | bytes | bytearray) or is_table(kind):
        return False
    return issubclass(base, Iterable)


_NUMBERS: Final = (bool, int, float, complex)
"""A value of each type is also valid for each later type."""


def agree(declared: Any, taken: Any) -> bool:
    """Return whether some value of the declared type can be a value of the taken type.

    >>> agree(int, float), agree(float, int), agree(int | None, int), agree(Literal["a"], str), agree(list[int], list[str])
    (True, False, True, True, False)
    """
    return any(_fits(one, other) for one in _alternatives(declared) for other in _alternatives(taken))


def resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """Resolve an annotation that is text; return `Any` if it cannot be resolved.

    >>> resolved("int | None", {}), resolved("Unknown", {})
    (int | None, typing.Any)
    """
    if not isinstance(annotation, str):
        return annotation
    holder = type("Holder", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - evaluating an annotation can raise anything; if it fails, the type is unknown
        return Any


def type_text(annotation: Any) -> str:
    """Return a type as its author would write it.

    >>> type_text("PositiveInt"), type_text(int), type_text(int | None), type_text(list[int])
    ('PositiveInt', 'int', 'int | None', 'list[int]')
    """
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


class _SingleValueType(NamedTuple):
    """A type that accepts a single value: one choice of a `Literal`."""

    value: object


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types of a union, and each value of a `Literal`; the type `None` only if the union has no other type."""
    kinds = [kind for kind in members(annotation) if kind is not NoneType] or [NoneType]
    return [
        each
        for kind in kinds
        for each in (map(_SingleValueType, get_args(kind)) if get_origin(kind) is Literal else [kind])
    ]


def _fits(one: Any, other: Any) -> bool:
    if isinstance(one, _SingleValueType) or isinstance(other, _SingleValueType):
        return _fits_value(one, other)
    kinds = [get_origin(kind) or kind for kind in (one, other)]
    if any(_says_nothing(kind) for kind in (one, other, *kinds)):
        return True
    if all(kind in _NUMBERS for kind in kinds):
        return _NUMBERS.index(kinds[0]) <= _NUMBERS.index(kinds[1])
    related = any(_is_subclass(kinds[index], kinds[1 - index]) for index in (0, 1))
    return related and _inner_fit(get_args(one), get_args(other))


def _fits_value(one: Any, other: Any) -> bool:
    if isinstance(one, _SingleValueType) and isinstance(other, _SingleValueType):
        return bool(one.value == other.value)
    value, kind = (one.value, other) if isinstance(one, _SingleValueType) else (other.value, one)
    return _fits(type(value), kind) or (isinstance(kind, type) and issubclass(kind, Enum))


def _inner_fit(ones: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Return whether the item types of two containers agree, as far as both declare them in the same form."""
    if len(ones) != len(others):
        return True
    return all(one is ... or other is ... or agree(one, other) for one, other in zip(ones, others, strict=True))


def _is_subclass(one: type, other: type) -> bool:
    try:
        return issubclass(one, other)
    except TypeError:  # a protocol that does not support isinstance
        return True


def _says_nothing(kind: Any) -> bool:
    """Return whether a type agrees with everything, or has a form that is not compared."""
    return kind in (Any, object, Callable, type(None)) or not (isinstance(kind, type) or get_args(kind))
