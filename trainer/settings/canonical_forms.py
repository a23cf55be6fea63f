"""Canonical forms of values: one form in memory for all equal values, and one form in a document."""

from __future__ import annotations

from cmath import isfinite
from dataclasses import is_dataclass
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from trainer.base.digest import LARGEST_EXACT, canonical
from trainer.settings.type_kinds import choices

if TYPE_CHECKING:
    from collections.abc import Iterable

_EXACTLY: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_MOST_PLAIN_DIGITS: Final = 100
"""Maximum digits of a decimal number that is written without an exponent."""


def one_form(value: Any) -> Any:
    """Return a value in the form that all equal values share: sets and tables sorted, no negative zero.

    >>> one_form({"b": -0.0, "a": (1, -0.0)})
    {'a': (1, 0.0), 'b': 0.0}
    """
    kind = type(value)
    if kind is float:
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if kind is complex:
        return complex(value.real + 0.0, value.imag + 0.0)
    if kind is Decimal:
        return _shortest(value)
    if kind is dict:
        return {key: one_form(value[key]) for key in _ordered(value)}
    if kind in {set, frozenset}:
        return kind(_ordered([one_form(each) for each in value]))
    return kind(one_form(each) for each in value) if kind in {list, tuple} else value


def one_number(value: Any, kinds: list[Any]) -> Any:
    """Return a whole float as an int if the union has `int` or an equal integer literal: a record does not distinguish 5 and 5.0.

    >>> one_number(5.0, [int, float]), one_number(5.0, [float])
    (5, 5.0)
    """
    if type(value) is not float or not value.is_integer():
        return value
    listed = [choice for kind in kinds for choice in choices(kind) or ()]
    is_whole = int in kinds or any(type(choice) is int and choice == value for choice in listed)
    return int(value) if is_whole else value


def document_of(value: Any) -> Any:
    """Return a value as a document holds it, with sets sorted."""
    value = fields_of(value) or value
    if isinstance(value, dict):
        return {str(next(iter(to_jsonable_python({key: None})))): document_of(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return [document_of(each) for each in _ordered(value)]
    return [document_of(each) for each in value] if isinstance(value, list | tuple) else to_jsonable_python(value)


def holds_set(value: Any) -> bool:
    """Return whether a value contains a set at any depth. A set has no order, unlike a document's list."""
    table = fields_of(value) or value
    inner = table.values() if isinstance(table, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, set | frozenset) or any(holds_set(each) for each in inner)


def fields_of(value: Any) -> dict[str, Any]:
    """Return the values of a model or a dataclass by their names in a document; empty for any other object."""
    if isinstance(value, BaseModel):
        fields = type(value).__pydantic_fields__
        named = {info.serialization_alias or name: getattr(value, name) for name, info in fields.items()}
        return named | (value.model_extra or {})
    return dict(vars(value)) if is_dataclass(value) and not isinstance(value, type) else {}


def unrecordable(value: Any) -> tuple[str, str] | None:
    """Return why a record cannot hold a value, and a hint; `None` if it can. A record's JSON must be readable in every language.

    >>> unrecordable([1, 2**60])
    ('an integer beyond 9007199254740991', 'use a number from -9007199254740991 to 9007199254740991')
    """
    match value:
        case int() if abs(value) > LARGEST_EXACT:
            return f"an integer beyond {LARGEST_EXACT}", f"use a number from -{LARGEST_EXACT} to {LARGEST_EXACT}"
        case float() | complex() if not isfinite(value):
            return "a number that is not finite", "use a finite number"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(inner, list | tuple | set | frozenset):
        return next(filter(None, map(unrecordable, inner)), None)
    try:
        to_jsonable_python(inner)
    except ValueError:  # pydantic raises it for a type without a JSON form and for bytes that are not text
        return f"a value of type {type(inner).__name__}", "declare it as a string, a number, a list or a table"
    return None


def _shortest(value: Decimal) -> Decimal:
    """Return a decimal number without trailing zeros: 1.10 becomes 1.1, 100 stays 100. No digit is rounded."""
    if not value.is_finite():
        return value
    normalized = value.normalize(_EXACTLY) if value else Decimal(0)
    exponent = normalized.as_tuple().exponent
    is_plain = isinstance(exponent, int) and exponent > 0 and normalized.adjusted() < _MOST_PLAIN_DIGITS
    return normalized.quantize(Decimal(1), context=_EXACTLY) if is_plain else normalized


def _ordered(values: Iterable[Any]) -> list[Any]:
    items = list(values)
    if all(type(each) is int or type(each) is float for each in items) or all(type(each) is str for each in items):
        return sorted(items)
    return sorted(items, key=lambda each: canonical(document_of(each)))
