r"""Agreement: whether a value of one declared type can be what another place, by the same name, says that it takes.

Knows annotations as Python and pydantic write them. Refuses to guess: what it cannot compare agrees, for a false alarm would stop a good
run. So does `None` beside a type, and a wider type where a narrower one is taken.

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
"""A value of each can stand where a later one is taken."""


def agree(declared: Any, taken: Any) -> bool:
    """Tell whether some value of what is declared can be what is taken.

    >>> agree(int, float), agree(float, int), agree(int | None, int), agree(Literal["a"], str), agree(list[int], list[str])
    (True, False, True, True, False)
    """
    return any(_fits(one, other) for one in _members(declared) for other in _members(taken))


def resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """Give the type that an annotation names, where it is text; `Any` where that cannot be told.

    >>> resolved("int | None", {}), resolved("Unknown", {})
    (int | None, typing.Any)
    """
    if not isinstance(annotation, str):
        return annotation
    holder = type("Holder", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - an annotation is somebody's expression: one that cannot be read says nothing
        return Any


def worded(annotation: Any) -> str:
    """Write a type as its author would.

    >>> worded("PositiveInt"), worded(int), worded(int | None), worded(list[int])
    ('PositiveInt', 'int', 'int | None', 'list[int]')
    """
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _members(kind: Any) -> list[Any]:
    """The types of a union, without `None` beside others, without marks and bounds."""
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
    """Whether what containers hold agrees, as far as both say it in the same form."""
    if len(ones) != len(others):
        return True
    return all(one is ... or other is ... or agree(one, other) for one, other in zip(ones, others, strict=True))


def _is_subclass(one: type, other: type) -> bool:
    try:
        return issubclass(one, other)
    except TypeError:  # a protocol that cannot be asked
        return True


def _says_nothing(kind: Any) -> bool:
    """Whether a type is one that everything agrees with, or a form that is not compared."""
    return kind in (Any, object, Callable, type(None)) or not (isinstance(kind, type) or get_args(kind))
