"""The managed block of `.env`: what compose and the containers are told about this machine.

Knows how the block is marked, and how to notice that somebody else changed it. Refuses to know what its values mean, and to touch a
line outside of it. The file holds the local store's key, so only its owner can read it.
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
"""A name and its value as compose reads them: in single quotes, in double quotes, or bare up to a comment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The managed block as it stands."""

    values: Mapping[str, str] = field(default_factory=dict)
    edited: bool = False
    """Somebody changed it by hand: its text is not what its mark says."""
    exists: bool = False


def read_block(path: Path) -> Block:
    """Read the block; an absent file or block is an empty one. Raises `DotenvError` for one that lost its end."""
    text = _read(path)
    found = _BLOCK.search(text)
    if found is None:
        if _BEGIN in text or _END in text:
            raise DotenvError(
                f"the managed block in {path} is damaged: one of its marks is gone",
                hint="remove the block, then scripts/setup",
            )
        return Block()
    return Block(values=_values(found[2]), edited=_mark(found[2]) != found[1], exists=True)


def write_block(path: Path, values: Mapping[str, str]) -> bool:
    """Make the block hold `values`, in place where there is one, else at the end; True where the file changed."""
    text = _read(path)
    for name, value in values.items():
        if "\n" in value or "'" in value:
            raise DotenvError(
                f"{name} cannot be written to {path}: {value!r} has a quote or a line end", hint="give another value"
            )
    body = "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())
    block = f"{_BEGIN} {_mark(body)}\n{body}{_END}\n"
    found = _BLOCK.search(text)
    if found:
        after = text[: found.start()] + block + text[found.end() :]
    else:
        after = text + ("\n" if text and not text.endswith("\n") else "") + block
    if after == text:
        return False
    write_whole(path, after.encode(), mode=0o600)
    return True


def all_values(path: Path) -> dict[str, str]:
    """What the whole file says, as compose reads it: of a name that it has twice, the last."""
    return _values(_read(path))


def outside(path: Path) -> dict[str, str]:
    """What the file's own lines say, outside of the block."""
    return _values(_BLOCK.sub("", _read(path)))


def shadowed(path: Path) -> list[str]:
    """Names to which the block and a line outside of it give two values: which of the two counts depends on their order."""
    own, block = outside(path), read_block(path).values
    return sorted(name for name in own.keys() & block.keys() if own[name] != block[name])


def _read(path: Path) -> str:
    return read_text(path, most=_LARGEST) if path.exists() else ""


def _values(text: str) -> dict[str, str]:
    lines = (found for line in text.splitlines() if (found := _LINE.fullmatch(line)))
    return {found[1]: _unquoted(found) for found in lines}


def _unquoted(found: re.Match[str]) -> str:
    _, single, double, bare = found.groups()
    if double is not None:
        return re.sub(r'\\(["\\$])', r"\1", double)
    return bare if single is None else single


def _quoted(value: str) -> str:
    """Compose reads `$` and `#` in bare values; in single quotes nothing is read."""
    return value if re.fullmatch(r"[A-Za-z0-9_./:@,+-]*", value) else f"'{value}'"


def _mark(body: str) -> str:
    return digest_of_bytes(body.encode()).removeprefix("sha256:")[:12]
