"""Reading files that people and programs write: TOML and JSON into frozen values.

Knows how pydantic's complaints are worded for the person who wrote the file. Refuses to know what any file means.
"""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

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

_SHOWN = 80
"""Characters of a wrong value that a message shows."""


def read_toml(path: Path, model: type[M]) -> M:
    """Read `path` as `model`. Raises `DocumentError`, naming the file, the key, what was found and what was expected."""
    try:
        content = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as fault:
        raise DocumentError(f"{path} is not valid TOML: {fault}", hint="mend the line that is named") from fault
    return typed(content, model, where=str(path))


def read_json(path: Path, model: type[M]) -> M:
    """Read `path` as `model`. Raises `DocumentError`, as `read_toml` does."""
    return parse_json(read_text(path), model, where=str(path))


def parse_json(text: str | bytes, model: type[M], *, where: str) -> M:
    """Read JSON text as `model`; `where` names its origin in messages."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as fault:
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
