"""Read TOML and JSON files into frozen, typed values, within limits.

Every document of Reprise is read here, including documents from other users. A text is rejected if it has too many bytes, items or
levels, a repeated key, a number that RFC 8785 cannot write, or a character that UTF-8 cannot encode. Each fault is a `DocumentError`
that names the document and the key.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tomllib
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Never, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from trainer.base.digest import LARGEST_EXACT
from trainer.base.errors import DocumentError
from trainer.base.json_faults import json_fault
from trainer.base.plain_text import LARGEST, read_text, reading
from trainer.base.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from trainer.base.safe_folder import Root

MOST_ITEMS: Final = 1_000_000
"""Maximum values and keys of a document: a seal that lists 100,000 files has 800,000."""
DEEPEST: Final = 64
"""Maximum levels of nesting."""
LONGEST: Final = 1e12
"""Maximum duration in seconds: 30,000 years."""

Count = Annotated[int, Field(ge=0, le=LARGEST_EXACT)]
"""An integer that every JSON reader represents exactly: a number of items, bytes, steps."""
Seconds = Annotated[FiniteFloat, Field(ge=0, le=LONGEST)]
"""A finite, nonnegative duration in seconds."""
OneLine = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", max_length=1000)]
"""A name that fits on one line of output."""


class Document(BaseModel):
    """A value read from a file: frozen, unknown keys rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


M = TypeVar("M", bound=BaseModel)

_BITS: Final = 1024
"""Maximum bits of a hexadecimal, octal or binary number in TOML, to which Python's limit of digits does not apply."""
_DIGITS: Final = sys.get_int_max_str_digits()
_DIGITS_OF_FLOATS: Final = 22
_SHOWN: Final = 80
"""Maximum characters of a wrong value in a message."""
_COUNTED: Final = 10_000
"""Maximum wrong values of a document for which the first is described."""
_PART: Final = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*+\.[ \t]*+"""
_CHAIN: Final = re.compile(rf"""(?<![\w"'-])(?:{_PART}){{{DEEPEST}}}""")
"""A dotted key with too many parts: tomllib's time grows with the square of their number."""
_OTHER_FILE: Final = "it is not a document of Reprise: name another file, or ask its author for a new copy"
_AGAIN: Final = "it is truncated or damaged: fetch it again"


class UnderflowError(ValueError):
    """A nonzero number whose nearest 64-bit float is zero."""


def read_number(text: str) -> float:
    """Parse a number with a point or an exponent. Raise `UnderflowError` if a nonzero number would be 0.

    >>> read_number("1e-4")
    0.0001
    """
    value = float(text)
    if value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        raise UnderflowError(f"the number {text} is too close to 0")
    return value


def read_toml(path: Path, model: type[M], *, most: int = LARGEST) -> M:
    """Read a file of at most `most` bytes as `model`.

    Raise `DocumentError`, naming the file, the key, what was found and what was expected.
    """
    return typed(parse_toml(read_text(path, most=most), where=str(path)), model, where=str(path))


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """Parse TOML text. Raise `DocumentError` with `where` and the line."""
    if found := _CHAIN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise DocumentError(
            f"{where}, line {line}: a key has more than {DEEPEST} parts",
            hint=f"shorten the key: at most {DEEPEST} parts",
        )
    try:
        content = tomllib.loads(text, parse_float=read_number)
    except UnderflowError as fault:
        raise DocumentError(f"{where}: {fault}", hint="write 0 or a larger number") from fault
    except tomllib.TOMLDecodeError as fault:
        raise DocumentError(f"{where} is not valid TOML: {fault}", hint="correct that line") from fault
    except RecursionError as fault:
        raise DocumentError(f"{where} has too many nested brackets", hint="reduce the nesting") from fault
    except ValueError as fault:  # int() rejects thousands of digits
        line, number = _longest_number(text)
        message = f"{where}, line {line}: a number has {len(number)} digits; expected at most {_DIGITS}"
        raise DocumentError(message, hint="write a smaller number, or a string in quotes") from fault
    _require_shallow(content, where)
    return content


def _longest_number(text: str) -> tuple[int, str]:
    """Return the line and the digits of the longest number in a text."""
    found = max(re.finditer(r"\d[\d_]*", text), key=lambda match: len(match[0]))
    return text[: found.start()].count("\n") + 1, found[0].replace("_", "")


def read_json(path: Path, model: type[M], *, most: int = LARGEST) -> M:
    """Read a file of at most `most` bytes as `model`. Raise `DocumentError`, as `read_toml` does."""
    return parse_json(read_text(path, most=most), model, where=str(path), most=most)


def read_json_below(root: Root, path: str, model: type[M], *, most: int = LARGEST) -> M:
    """Read a file below a run or a cache as `model`. Raise `DocumentError`, as `read_json` does, or `UnsafePathError`."""
    where = root.path / path
    with reading(where):
        return parse_json(root.read(path, most=most), model, where=str(where), most=most)


def parse_json(text: str | bytes, model: type[M], *, where: str, most: int = LARGEST, whole: int = LARGEST_EXACT) -> M:
    """Parse JSON text as `model`; `where` names its origin in messages. Raise `DocumentError` if the text is invalid."""
    return typed(json_value(text, where=where, most=most, whole=whole), model, where=where)


def json_value(text: str | bytes, *, where: str, most: int = LARGEST, whole: int = LARGEST_EXACT) -> Any:
    """Parse JSON text of at most `most` bytes: UTF-8, unique keys, finite numbers, integers up to `whole`.

    Raise `DocumentError` if the text is too long, is not JSON, or has another key or value.
    """
    if len(text) > most:
        raise DocumentError(f"{where} has {len(text):,} bytes; expected at most {most:,}", hint=_OTHER_FILE)
    try:
        decoded = text if isinstance(text, str) else text.decode()
        _require_few(decoded, where)
        number = partial(_number, whole=whole)
        content = json.loads(decoded, object_pairs_hook=_unique, parse_constant=_not_finite, parse_int=number)
    except RecursionError as fault:
        raise DocumentError(f"{where} has too many nested brackets", hint=_OTHER_FILE) from fault
    except ValueError as fault:
        raise DocumentError(f"{where} is not valid JSON: {json_fault(fault)}", hint=_AGAIN) from fault
    _require_plain(content, where, whole)
    return content


def typed(content: Mapping[str, Any] | object, model: type[M], *, where: str) -> M:
    """Validate `content` as `model`. Raise `DocumentError` that describes the first fault in one sentence."""
    try:
        return model.model_validate(content)
    except ValidationError as fault:
        count = fault.error_count()
        if count > _COUNTED:
            raise DocumentError(
                f"{where} has {count:,} invalid values: it is a different kind of document", hint=_OTHER_FILE
            ) from None
        faults = fault.errors(include_url=False)
        more = f" (and {count - 1} more)" if count > 1 else ""
        sentence, hint = _worded(faults[0], model)
        raise DocumentError(f"{where}: {sentence}{more}", hint=hint) from fault


def _require_few(text: str, where: str) -> None:
    """Limit the number of values by counting separators, before any value is created."""
    found = sum(map(text.count, ",[{"))
    if found > MOST_ITEMS:
        raise DocumentError(f"{where} has {found:,} items; expected at most {MOST_ITEMS:,}", hint=_OTHER_FILE)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = dict.fromkeys(found, 0)
        for name, _ in pairs:
            seen[name] += 1
        raise ValueError(f"key {_dotted((max(seen, key=seen.__getitem__),))} is given twice")
    return found


def _number(text: str, *, whole: int) -> int | float:
    """Parse a number without a point. A number beyond `whole` is a float if it is spelled as in RFC 8785, up to 1e21."""
    value = int(text)
    if abs(value) > whole and len(text) <= _DIGITS_OF_FLOATS and int(Decimal(repr(float(value)))) == value:
        return float(value)
    return value


def _not_finite(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")


def _require_shallow(content: Any, where: str) -> None:
    """Raise `DocumentError` for too many levels, and for numbers that Python cannot convert to text.

    The caller checks other numbers: TOML has numbers that JSON does not have.
    """
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        found = [value for values in inner for value in values]
        if any(isinstance(value, int) and value.bit_length() > _BITS for value in found):
            raise DocumentError(f"{where}: a number has more than {_BITS} bits", hint="write a smaller number")
        level = [value for value in found if isinstance(value, dict | list)]
    if level:
        raise DocumentError(f"{where} has more than {DEEPEST} levels of brackets", hint="reduce the nesting")


def _require_plain(content: Any, where: str, whole: int) -> None:
    """Raise `DocumentError` for the first key or value that a document cannot hold, and for too many levels."""
    level, depth = [content], 0
    while level:
        if depth >= DEEPEST:
            raise DocumentError(f"{where} has more than {DEEPEST} levels of brackets", hint=_OTHER_FILE)
        try:
            level, depth = [each for value in level for each in _holders_in(value, whole)], depth + 1
        except _OddError:
            path, found = _odd(content, whole)
            raise DocumentError(f"{where}: {_dotted(path)} holds {found}", hint=_OTHER_FILE) from None


class _OddError(ValueError):
    """A key or a value that a document cannot hold."""


def _holders_in(holder: Any, whole: int) -> list[Any]:
    """Return the nested containers of a value. Raise `_OddError`. This is a hot loop: it runs for every value of every document."""
    if type(holder) is list and (nested := _nested_in(holder)) is not None:
        return nested
    values: Iterable[Any] = holder if type(holder) is list else (holder,)
    if type(holder) is dict:
        if not all(key.isascii() or _is_text(key) for key in holder):
            raise _OddError
        values = holder.values()
    found = []
    for value in values:
        kind = type(value)
        if kind is dict or kind is list:
            found.append(value)
        elif kind is str:
            if not value.isascii() and not _is_text(value):
                raise _OddError
        elif (kind is int and not -whole <= value <= whole) or (kind is float and not math.isfinite(value)):
            raise _OddError
    return found


def _nested_in(values: list[Any]) -> list[Any] | None:
    """Return the nested containers of a list of lists, or of a list of finite floats, as in tensors; `None` for another list."""
    kinds = set(map(type, values))
    if kinds == {list}:
        return values
    return [] if kinds == {float} and all(map(math.isfinite, values)) else None


def _odd(content: Any, whole: int) -> tuple[tuple[Any, ...], str]:
    """Return the path to the first key or value that a document cannot hold, and the reason."""
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), content)]
    for path, value in waiting:
        match value:
            case dict():
                waiting += [((*path, key), each) for key, each in value.items()]
            case list():
                waiting += [((*path, place), each) for place, each in enumerate(value)]
            case int() if abs(value) > whole:
                return path, f"an integer beyond {whole}"
            case float() if not math.isfinite(value):
                return path, "a number beyond 1.8e308"
        if not all(_is_text(each) for each in (*path[-1:], value) if isinstance(each, str)):
            return path, "a lone surrogate, which UTF-8 cannot write"
    raise AssertionError(content)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _worded(fault: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    key = _joined(fault["loc"])
    match fault["type"]:
        case "extra_forbidden":
            last = str(fault["loc"][-1])
            close = nearest(last, model.model_fields) if len(fault["loc"]) == 1 else []
            hint = f"did you mean {' or '.join(close)}?" if close else "remove it"
            return f"unknown key {key!r}", hint
        case "missing":
            return f"key {key!r} is missing", "add it"
        case _:
            found = repr(fault["input"])
            found = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."
            return f"{_dotted(fault['loc'])}: found {found}; {_lower(fault['msg'])}", "correct the value"


def _dotted(path: tuple[Any, ...]) -> str:
    """Return the path to a value as dotted keys, on one line."""
    key = _joined(path)
    return key if key.isprintable() else ascii(key)


def _joined(path: tuple[Any, ...]) -> str:
    names = (text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..." for text in map(str, path))
    return ".".join(names) or "the whole document"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
