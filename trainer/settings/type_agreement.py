r"""Check whether a value of one declared type can be passed where another type is declared under the same name.

Types that cannot be compared agree, because a false alarm would stop a valid run. `None` beside a type agrees, and so does a wider
type where a narrower type is accepted.

| declared | taken as | agree |
|---|---|---|
| `PositiveInt` | `int`, `float`, `int \| None` | yes: bounds and `None` do not count, a float takes an int |
| `float` | `int` | no |
| `Literal["a", "b"]` | `str` | yes |
| `list[int]` | `Sequence[int]` | yes |
| `list[int]` | `int` | no |
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

_NUMBERS: Final = (bool, int, float, complex)
"""A value of each type is also valid for each later type."""


def agree(declared: Any, taken: Any) -> bool:
    """Return whether some value of the declared type can be a value of the taken type.

    >>> agree(int, float), agree(float, int), agree(int | None, int), agree(Literal["a"], str), agree(list[int], list[str])
    (True, False, True, True, False)
    """
    return any(_fits(one, other) for one in _members(declared) for other in _members(taken))


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


def worded(annotation: Any) -> str:
    """Return a type as its author would write it.

    >>> worded("PositiveInt"), worded(int), worded(int | None), worded(list[int])
    ('PositiveInt', 'int', 'int | None', 'list[int]')
    """
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _members(kind: Any) -> list[Any]:
    """Return the types of a union, without marks and bounds, and without `None` unless it is the only one."""
    kind = _bare(kind)
    if get_origin(kind) in {Union, types.UnionType}:
        found = [member for each in get_args(kind) if each is not type(None) for member in _members(each)]
        return found or [kind]
    if get_origin(kind) is Literal:
        return [_One(value) for value in get_args(kind)]
    return [kind]


class _One:
    """A single value as a type."""

    def __init__(self, value: object) -> None:
        self.value = value


def _bare(kind: Any) -> Any:
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif isinstance(kind, NewType):
            kind = kind.__supertype__
        elif kind is None:
            return type(None)
        else:
            return kind


def _fits(one: Any, other: Any) -> bool:
    if isinstance(one, _One) or isinstance(other, _One):
        return _fits_value(one, other)
    kinds = [get_origin(kind) or kind for kind in (one, other)]
    if any(_says_nothing(kind) for kind in (one, other, *kinds)):
        return True
    if all(kind in _NUMBERS for kind in kinds):
        return _NUMBERS.index(kinds[0]) <= _NUMBERS.index(kinds[1])
    related = any(_is_subclass(kinds[here], kinds[1 - here]) for here in (0, 1))
    return related and _inner_fit(get_args(one), get_args(other))


def _fits_value(one: Any, other: Any) -> bool:
    if isinstance(one, _One) and isinstance(other, _One):
        return bool(one.value == other.value)
    value, kind = (one.value, other) if isinstance(one, _One) else (other.value, one)
    return _fits(type(value), kind) or (isinstance(kind, type) and issubclass(kind, enum.Enum))


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
