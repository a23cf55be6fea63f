"""Documents as YAML that every parser reads in the same way: each text is quoted or a literal block, so that no text becomes a number."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PLAIN: Final = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[a-z][A-Za-z]*")
"""Keys that need no quotes."""
_BLOCK: Final = re.compile(r"(?=[\x21-\x7e])(?:[\x20-\x7e]*\n)*[\x20-\x7e]*[\x21-\x7e]\n")
"""Texts of several lines that a literal block represents exactly."""
_ESCAPED: Final = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Characters that JSON allows in a text and YAML does not, or folds."""


def yaml_text(documents: Iterable[object]) -> str:
    """Return documents of JSON values, without floats, as one YAML text.

    >>> print(yaml_text([{"kind": "Job", "spec": {"args": ["no", "1e3"], "nodes": 2, "empty": []}}]), end="")
    kind: "Job"
    spec:
      args:
        - "no"
        - "1e3"
      nodes: 2
      empty: []
    """
    return "---\n".join("".join(f"{line}\n" for line in _lines(document)) for document in documents)


def _lines(value: object) -> Iterator[str]:
    """Yield the lines of a mapping or a list that is not empty."""
    match value:
        case dict():
            for key, item in value.items():
                name = key if _PLAIN.fullmatch(key) else _quoted(key)
                yield from _entry(f"{name}:", item)
        case list():
            for item in value:
                if item and isinstance(item, dict):
                    first, *others = _lines(item)
                    yield f"- {first}"
                    yield from (_indented(line) for line in others)
                else:
                    yield from _entry("-", item)
        case _:
            yield _scalar(value)


def _entry(head: str, item: object) -> Iterator[str]:
    if item and isinstance(item, dict | list):
        yield head
        yield from map(_indented, _lines(item))
    elif isinstance(item, str) and _BLOCK.fullmatch(item):
        yield f"{head} |"
        yield from map(_indented, item.splitlines())
    else:
        yield f"{head} {_scalar(item)}"


def _indented(line: str) -> str:
    return f"  {line}" if line else ""


def _scalar(value: object) -> str:
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Return a text in double quotes, with JSON's escapes, which YAML also has, and escapes for characters that YAML does not allow."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
