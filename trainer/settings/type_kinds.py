"""Inspect a setting's type: the types of a union, its choices, and whether it is a list or a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as dataclass_fields
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, NewType, Union, get_args, get_origin, get_type_hints


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
        known = kind.__pydantic_fields__.items()
        return [Key(info.alias or name, info.annotation, info.is_required()) for name, info in known]
    hints = get_type_hints(kind)
    if hasattr(kind, "__required_keys__"):
        return [Key(name, hint, name in kind.__required_keys__) for name, hint in hints.items()]
    lacking = {each.name for each in dataclass_fields(kind) if each.default is each.default_factory is MISSING}
    return [Key(each.name, hints[each.name], each.name in lacking) for each in dataclass_fields(kind)]


def is_list(kind: Any) -> bool:
    """Return whether a document represents this type as a list."""
    base = get_origin(kind) or kind
    if not isinstance(base, type) or issubclass(base, str | bytes | bytearray) or is_table(kind):
        return False
    return issubclass(base, Iterable)
