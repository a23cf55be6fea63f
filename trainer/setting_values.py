"""Values of settings: which value a text or a document's value has for a setting's type, and the one form of each value.

A value of a document (TOML, JSON, a record) is judged strictly: a number is no text, `true` is no number, 1 is no truth value; an int
stands for a float. A text of the command line or of the environment means what the same text means in a settings file if the
setting's type admits that value; otherwise it is the text itself.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError, create_model
from pydantic_core import PydanticUndefined, to_jsonable_python

from trainer.digest import LARGEST_EXACT, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_NULLS: Final = frozenset({"none", "null"})
_FLAGS: Final = {"true": True, "false": False}
_NUMBER: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")
"""Numbers as Python writes some of them, and neither JSON nor TOML does: `.5`, `5.`, `+.5`."""
_TEXTS: Final = (str, bytes, PurePath, SecretStr, SecretBytes, Decimal)
"""Types that take a text as it is typed: quotes and digits are a part of it."""
_NOTHING: Final = object()
_BEFORE: Final = ("before", "wrap", "plain")


class MisfitError(ValueError):
    """A value that a setting's type does not admit; `faults` are the validator's."""

    def __init__(self, faults: Iterable[ErrorDetails]) -> None:
        """Keep what the validator found."""
        super().__init__("the type does not admit this value")
        self.faults = tuple(faults)


def members(annotation: Any) -> list[Any]:
    """Give the types of a union, each without its bounds; one type alone is a union of one.

    >>> members(int | None), members(Annotated[float, "bound"])
    ([<class 'int'>, <class 'NoneType'>], [<class 'float'>])
    """
    kind = annotation
    while get_origin(kind) is Annotated or isinstance(kind, NewType):
        kind = kind.__supertype__ if isinstance(kind, NewType) else get_args(kind)[0]
    if get_origin(kind) in {Union, UnionType}:
        return [member for each in get_args(kind) for member in members(each)]
    return [type(None) if kind is None else kind]


def is_flag(info: FieldInfo | None) -> bool:
    """Tell whether an option of this setting may stand alone: `--x`, `--no-x`."""
    return info is not None and {kind for kind in members(info.annotation) if kind is not type(None)} == {bool}


def typed_text(info: FieldInfo, text: str, *, judges: bool = True) -> Any:
    """Give the value that a text has for this setting. Raises `MisfitError`.

    `judges` is false for a setting with a validator of its own that sees values before they have their type: it gets the text.
    """
    candidates = _candidates(info, text)
    faults: list[ErrorDetails] = []
    for candidate in candidates:
        try:
            return typed_value(info, candidate)
        except MisfitError as fault:
            faults += fault.faults
    if judges:
        raise MisfitError(faults)
    return text


def typed_value(info: FieldInfo, value: Any) -> Any:
    """Give a document's value back if the setting's type admits it. Raises `MisfitError`."""
    judge = _judge(_Kind(info))
    try:
        document = json.dumps({"value": value}, default=_written_out)
        found = judge.__pydantic_validator__.validate_json(document, strict=True).value
    except ValidationError as fault:
        raise MisfitError(fault.errors(include_url=False)) from fault
    except (TypeError, ValueError, RecursionError) as fault:
        raise MisfitError([_fault("unwritable", value)]) from fault
    if _is_confused(value, found):
        raise MisfitError([_fault("confused", value)])
    return _plain(value)


def typed_as(info: FieldInfo, value: Any) -> str | None:
    """Give a text that has this value for this setting: what would be typed for a document's value; `None` if no text has it."""
    plain = value.isoformat() if isinstance(value, date | time) else value
    candidates = [plain] if isinstance(plain, str) else []
    with suppress(ValueError, TypeError):
        candidates.append(json.dumps(plain, default=_written_out))
    for candidate in candidates:
        with suppress(MisfitError):
            found = typed_text(info, candidate)
            if (
                found in (value, plain)
                and not _is_confused(value, found)
                and isinstance(found, str) == isinstance(plain, str)
            ):
                return candidate
    return None


def typed_default(info: FieldInfo) -> None:
    """Judge a setting's default, which may be of any form that Python has for it. Raises `MisfitError`."""
    if info.validate_default is False or info.default is PydanticUndefined or info.default is None:
        return  # None: pydantic itself judges it, and nothing else is taken for it
    try:
        found = _judge(_Kind(info)).__pydantic_validator__.validate_python({"value": info.default}, strict=True).value
    except ValidationError as fault:
        with suppress(ValueError):  # a list for a tuple, a date as text: any form that a document has for it
            typed_value(info, to_jsonable_python(info.default))
            return
        raise MisfitError(fault.errors(include_url=False)) from fault
    if _is_confused(info.default, found):
        raise MisfitError([_fault("confused", info.default)])


def judged_by_itself(settings: type[BaseModel], name: str) -> bool:
    """Tell whether the class has a validator for this setting that sees values before they have their type."""
    found = settings.__pydantic_decorators__.field_validators.values()
    return any(
        each.info.mode in _BEFORE and ("*" in each.info.fields or name in each.info.fields) for each in found
    ) or any(each.info.mode in _BEFORE for each in settings.__pydantic_decorators__.model_validators.values())


def one_form(value: Any) -> Any:
    """Give a value in the one form that all equal values have: sets and tables in order, no negative zero.

    >>> one_form({"b": -0.0, "a": (1, -0.0)})
    {'a': (1, 0.0), 'b': 0.0}
    """
    kind = type(value)
    if kind is float:
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if kind is Decimal:
        return _shortest(value)
    if kind is dict:
        return {key: one_form(value[key]) for key in _ordered(value)}
    if kind in {set, frozenset}:
        return kind(_ordered([one_form(each) for each in value]))
    return kind(one_form(each) for each in value) if kind in {list, tuple} else value


def document_of(value: Any) -> Any:
    """Write a value as a document holds it, sets in order."""
    if isinstance(value, dict):
        return {_key(key): document_of(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return [document_of(each) for each in _ordered(value)]
    return [document_of(each) for each in value] if isinstance(value, list | tuple) else to_jsonable_python(value)


def holds_set(value: Any) -> bool:
    """Tell whether a set is anywhere in a value: its order is not that of a document."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, set | frozenset) or any(holds_set(each) for each in inner)


def unrecordable(value: Any) -> str | None:
    """Say what in a value no record can hold, if there is such a thing: a record's JSON is read by every language.

    >>> unrecordable([1, 2**60])
    'a whole number beyond 9007199254740991'
    """
    match value:
        case int() if abs(value) > LARGEST_EXACT:
            return f"a whole number beyond {LARGEST_EXACT}"
        case float() if not abs(value) < float("inf"):
            return "a number that is not finite"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(inner, list | tuple | set | frozenset):
        return next(filter(None, map(unrecordable, inner)), None)
    try:
        to_jsonable_python(inner)
    except ValueError:  # pydantic's, of a type that JSON has no form for, and of bytes that are no text
        return f"a value of type {type(inner).__name__}"
    return None


def _candidates(info: FieldInfo, text: str) -> list[Any]:
    """What a text can stand for, the first that fits counts; `none` is null unless it is one of the setting's own texts."""
    kinds = members(info.annotation)
    null = text.lower() in _NULLS and type(None) in kinds and text not in _choices(kinds)
    read = [found] if (found := _read(text)) is not _NOTHING else []
    texts_alone = all(_takes_text(kind) for kind in kinds if kind is not type(None))
    return [*([None] if null else []), *([text, *read] if texts_alone else [*read, text])]


def _takes_text(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(choice, str) for choice in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return all(isinstance(each.value, str) for each in kind)
    return isinstance(kind, type) and issubclass(kind, _TEXTS)


def _choices(kinds: list[Any]) -> set[Any]:
    """The texts that a `Literal` or an enumeration among these types has."""
    named = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    listed = [each.value for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for each in kind]
    return {choice for choice in [*named, *listed] if isinstance(choice, str)}


def _read(text: str) -> Any:
    """What a text means in a document: JSON, else TOML, else a number as Python writes it; `true` and `false` in any case."""
    if text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    if "\n" not in text and "\r" not in text:
        with suppress(ValueError, RecursionError):
            found = tomllib.loads(f"value = {text}")
            if found.keys() == {"value"} and not isinstance(found["value"], date | time):
                return found["value"]
    return float(text) if _NUMBER.fullmatch(text) else _NOTHING


class _Kind:
    """A setting's type with its bounds, by which a judge is kept."""

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
    """A model with one field of this type."""
    annotation: Any = Annotated[kind.annotation, *kind.metadata] if kind.metadata else kind.annotation
    config = ConfigDict(allow_inf_nan=False, extra="forbid")
    return create_model("Judge", __config__=config, value=(annotation, ...))


def _fault(kind: str, value: Any) -> ErrorDetails:
    return {"type": kind, "loc": ("value",), "msg": "", "input": value}


def _written_out(value: Any) -> str:
    """A date or a time of TOML as JSON has it; anything else has no form there."""
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _is_confused(given: Any, found: Any) -> bool:
    """Whether a truth value became a number, or a number one, which Python takes for equal and a `Literal` therefore too."""
    found = found.value if isinstance(found, Enum) else found
    if isinstance(given, list | tuple) and isinstance(found, list | tuple) and len(given) == len(found):
        return any(_is_confused(one, other) for one, other in zip(given, found, strict=True))
    if isinstance(given, list) and isinstance(found, set | frozenset):
        return any(isinstance(one, bool) for one in given) != any(isinstance(one, bool) for one in found)
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        return any(_is_confused(value, found[key]) for key, value in given.items() if key in found)
    numbers = isinstance(given, bool | int | float) and isinstance(found, bool | int | float)
    return numbers and isinstance(given, bool) != isinstance(found, bool)


def _plain(value: Any) -> Any:
    """A document's value without negative zeros."""
    return one_form(value) if isinstance(value, float | list | dict) else value


def _shortest(value: Decimal) -> Decimal:
    """A decimal number without zeros at its end: 1.10 is 1.1, and 100 stays 100."""
    if not value.is_finite():
        return value
    short = value.normalize()
    exponent = short.as_tuple().exponent
    return short.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else short + 0


def _ordered(values: Iterable[Any]) -> list[Any]:
    found = list(values)
    if all(type(each) is int or type(each) is float for each in found) or all(type(each) is str for each in found):
        return sorted(found)
    return sorted(found, key=lambda each: canonical(document_of(each)))


def _key(key: Any) -> str:
    found = to_jsonable_python({key: None})
    return str(next(iter(found)))
