"""Digests of bytes, files and JSON documents: SHA-256, over the canonical form of JSON (RFC 8785).

A digest is written `sha256:<64 hex digits>` in every document, so that it carries its algorithm.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import rfc8785
from pydantic import StringConstraints

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PATTERN: Final = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, StringConstraints(pattern=PATTERN)]
"""A field with a digest: `sha256:` and 64 lower-case hex digits."""

_BLOCK: Final = 1 << 20
LARGEST_EXACT: Final = 2**53 - 1


def digest_of_bytes(data: bytes) -> str:
    """Return the digest of `data`.

    >>> digest_of_bytes(b"")[:14]
    'sha256:e3b0c44'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of_blocks(blocks: Iterable[bytes | memoryview]) -> str:
    """Return the digest of the concatenated `blocks`, without holding them in memory."""
    running = hashlib.sha256()
    for block in blocks:
        running.update(block)
    return f"sha256:{running.hexdigest()}"


def digest_of_file(path: Path) -> str:
    """Return the digest of a file, read once."""
    with path.open("rb") as file:
        return digest_of_open(file)


def digest_of_open(file: BinaryIO) -> str:
    """Return the digest of an open file, from its current position to its end."""
    return digest_of_blocks(iter(lambda: file.read(_BLOCK), b""))


def digest_of_document(document: object) -> str:
    """Return the digest of a JSON document's canonical form: key order, spacing and number notation do not matter.

    >>> digest_of_document({"a": 1, "b": 2.0}) == digest_of_document({"b": 2.0, "a": 1})
    True
    """
    return digest_of_bytes(canonical(document))


def canonical(document: object) -> bytes:
    """Return the canonical form of a JSON document (RFC 8785).

    Values that RFC 8785 does not support are written as strings: non-finite numbers as `NaN`, `Infinity`, `-Infinity`, negative zero
    as `-0`, and integers beyond 2**53 - 1 in decimal.

    >>> canonical({"b": float("inf"), "a": [1, 1.5]})
    b'{"a":[1,1.5],"b":"Infinity"}'
    """
    return rfc8785.dumps(_representable(document))


def is_digest(text: str) -> bool:
    """Return whether `text` is a digest in its written form."""
    return re.fullmatch(PATTERN, text) is not None


def _representable(value: object) -> Any:
    match value:
        case float() if value == 0.0 and math.copysign(1.0, value) < 0:
            return "-0"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
        case int() if not isinstance(value, bool) and abs(value) > LARGEST_EXACT:
            return str(value)
        case dict():
            return {key: _representable(item) for key, item in value.items()}
        case list() | tuple():
            return [_representable(item) for item in value]
        case _:
            return value
