"""The managed block of `.env`: values about this machine for compose and its containers.

The block contains a digest of its text, which reveals manual edits. Lines outside of the block are never changed. The file holds the
local store's key, so only its owner can read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import write_whole
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DotenvError
from trainer.base.plain_text import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LARGEST: Final = 1 << 20
_BEGIN: Final = "# >>> reprise: written by scripts/setup; lines of your own belong outside of this block."
_END: Final = "# <<< reprise"
_BLOCK: Final = re.compile(rf"^{re.escape(_BEGIN)} (\w+)\n(.*?)^{re.escape(_END)}[^\n]*\n?", re.MULTILINE | re.DOTALL)
_LINE: Final = re.compile(
    r"""\s*(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=\s*(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|(.*?))\s*(?:(?<=\s)\#.*)?"""
)
"""A name and its value as compose reads them: in single quotes, in double quotes, or unquoted up to a comment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedBlock:
    """The managed block as found."""

    values: Mapping[str, str] = field(default_factory=dict)
    edited: bool = False
    """Whether the text of the block does not match the block's digest."""
    exists: bool = False


def read_block(path: Path) -> ManagedBlock:
    """Read the block; it is empty if the file or the block does not exist. Raise `DotenvError` if the begin or end marker is missing."""
    text = _read(path)
    match = _BLOCK.search(text)
    if match is None:
        if _BEGIN in text or _END in text:
            raise DotenvError(
                f"the managed block in {path} is damaged: one of its markers is missing",
                hint="remove the block, then scripts/setup",
            )
        return ManagedBlock()
    return ManagedBlock(values=_values(match[2]), edited=_mark(match[2]) != match[1], exists=True)


def write_block(path: Path, values: Mapping[str, str]) -> bool:
    """Replace the block, or append it, and return whether the file changed. Raise `DotenvError` if a value cannot be quoted."""
    text = _read(path)
    for name, value in values.items():
        if "\n" in value or "'" in value:
            raise DotenvError(
                f"{name} cannot be written to {path}: {value!r} has a quote or a line break", hint="use another value"
            )
    body = "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())
    block = f"{_BEGIN} {_mark(body)}\n{body}{_END}\n"
    match = _BLOCK.search(text)
    if match:
        result = text[: match.start()] + block + text[match.end() :]
    else:
        result = text + ("\n" if text and not text.endswith("\n") else "") + block
    if result == text:
        return False
    write_whole(path, result.encode(), mode=0o600)
    return True


def all_values(path: Path) -> dict[str, str]:
    """Return the values of the whole file as compose reads them: the last value of a repeated name."""
    return _values(_read(path))


def user_values(path: Path) -> dict[str, str]:
    """Return the values of the lines outside of the block."""
    return _values(_BLOCK.sub("", _read(path)))


def conflicting_names(path: Path) -> list[str]:
    """Return the names whose values in the block and outside of it differ."""
    own, block = user_values(path), read_block(path).values
    return sorted(name for name in own.keys() & block.keys() if own[name] != block[name])


def _read(path: Path) -> str:
    return read_text(path, most=_LARGEST) if path.exists() else ""


def _values(text: str) -> dict[str, str]:
    lines = (match for line in text.splitlines() if (match := _LINE.fullmatch(line)))
    return {match[1]: _unquoted(match) for match in lines}


def _unquoted(match: re.Match[str]) -> str:
    _, single, double, unquoted = match.groups()
    if double is not None:
        return re.sub(r'\\(["\\$])', r"\1", double)
    return unquoted if single is None else single


def _quoted(value: str) -> str:
    """Quote a value if needed: compose interprets `$` and `#` in values without single quotes."""
    return value if re.fullmatch(r"[A-Za-z0-9_./:@,+-]*", value) else f"'{value}'"


def _mark(body: str) -> str:
    return digest_of_bytes(body.encode()).removeprefix("sha256:")[:12]
