"""Reading files that people and programs write: TOML and JSON into frozen values.

Knows how pydantic's complaints are worded for the person who wrote the file. Refuses to know what any file means.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.errors import DocumentError
from trainer.plain_text import read_text
from trainer.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails


class Document(BaseModel):
    """A value read from a file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=BaseModel)

_DIGITS: Final = sys.get_int_max_str_digits()
_SHOWN = 80
"""Characters of a wrong value that a message shows."""


def read_toml(path: Path, model: type[M]) -> M:
    """Read `path` as `model`. Raises `DocumentError`, naming the file, the key, what was found and what was expected."""
    return typed(parse_toml(read_text(path), where=str(path)), model, where=str(path))


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """Read TOML text. Raises `DocumentError` with `where` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise DocumentError(f"{where} is not valid TOML: {fault}", hint="correct that line") from fault
    except RecursionError as fault:
        raise DocumentError(f"{where} has too many nested brackets", hint="remove some") from fault
    except ValueError as fault:  # int() of thousands of digits
        line, number = _longest_number(text)
        said = f"{where}, line {line}: a number has {len(number)} digits; expected at most {_DIGITS}"
        raise DocumentError(said, hint="write a smaller number, or a text in quotes") from fault


def _longest_number(text: str) -> tuple[int, str]:
    """The longest run of digits in a text, with its line."""
    found = max(re.finditer(r"\d[\d_]*", text), key=lambda match: len(match[0]))
    return text[: found.start()].count("\n") + 1, found[0].replace("_", "")


def read_json(path: Path, model: type[M]) -> M:
    """Read `path` as `model`. Raises `DocumentError`, as `read_toml` does."""
    return parse_json(read_text(path), model, where=str(path))


def parse_json(text: str | bytes, model: type[M], *, where: str) -> M:
    """Read JSON text as `model`; `where` names its origin in messages."""
    try:
        content = json.loads(text)
    except RecursionError as fault:
        raise DocumentError(f"{where} has too many nested brackets", hint="fetch it again") from fault
    except ValueError as fault:
        raise DocumentError(
            f"{where} is not valid JSON: {fault}",
            hint="it is truncated or damaged: fetch it again",
        ) from fault
    return typed(content, model, where=where)


def typed(content: Mapping[str, Any] | object, model: type[M], *, where: str) -> M:
    """Make `content` a `model`, or say in one sentence what is wrong with it first."""
    try:
        return model.model_validate(content)
    except ValidationError as fault:
        faults = fault.errors(include_url=False)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        sentence, hint = _worded(faults[0], model)
        raise DocumentError(f"{where}: {sentence}{more}", hint=hint) from fault


def _worded(fault: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    key = ".".join(str(part) for part in fault["loc"]) or "the whole document"
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
            return f"{key}: found {found}; {_lower(fault['msg'])}", "correct the value"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
