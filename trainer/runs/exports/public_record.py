"""A record without absolute paths or likely secrets, for documents that leave the machine.

Exported documents omit host names, command lines, import roots and shared libraries; this module handles free texts, such as values of
settings and reasons. A text that contains an absolute path or a likely secret is replaced as a whole by a mark. The files that a crate
copies are not changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import typed
from trainer.base.redaction import REDACTOR, SHORTEST, is_secret_name
from trainer.base.secret_detection import secret_by_content
from trainer.runs.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH_REMOVED: Final = "[removed: a path of the machine]"
SECRET_REMOVED: Final = "[removed: it looks like a secret]"  # noqa: S105 - a mark that replaces a secret
_PATH: Final = re.compile(
    r"""(?ix)
      file:/+
    | (?<![\w./)}~]) ~ [\w.-]* /
    | (?<![\w./)}]) / (?=[\w.])
    | (?<!\w) [a-z]: \\
    | (?<![\w\\]) \\\\ \w
    """
)
"""The beginning of an absolute path, but not of a path in a URL."""


def public_record(record: Record) -> Record:
    """Return the record, with each text that must not leave the machine replaced by a mark."""
    values = record.model_dump(mode="json")
    for part, name in (("ingredients", "settings"), ("circumstances", "execution")):
        values[part][name] = _without_named_secrets(values[part][name])
    return typed(public(values), Record, where=f"the record of run {record.run}")


def public(value: Any) -> Any:
    """Return a JSON value, with each text that contains an absolute path or a likely secret replaced by a mark.

    >>> public(["a/b", "/home/me/a.csv", "s3://bucket/a", {"at": "--data=/home/me"}])
    ['a/b', '[removed: a path of the machine]', 's3://bucket/a', {'at': '[removed: a path of the machine]'}]
    """
    match value:
        case str():
            return _public_text(value)
        case dict():
            return {_public_text(key): public(item) for key, item in value.items()}
        case list():
            return [public(item) for item in value]
        case _:
            return value


def _public_text(text: str) -> str:
    if REDACTOR.redact(text) != text or secret_by_content(text.encode("utf-8", "replace")):
        return SECRET_REMOVED
    return PATH_REMOVED if _PATH.search(text) else text


def _without_named_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace strings under names of secrets, such as `api_key`, at any depth; strings of fewer than 8 characters are kept."""

    def cleaned(name: str, value: Any) -> Any:
        match value:
            case dict():
                return {key: cleaned(key, item) for key, item in value.items()}
            case list():
                return [cleaned(name, item) for item in value]
            case str() if len(value) >= SHORTEST and is_secret_name(name):
                return SECRET_REMOVED
            case _:
                return value

    return {name: cleaned(name, value) for name, value in values.items()}
