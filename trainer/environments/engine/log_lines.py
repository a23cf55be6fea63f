"""The lines of a container's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST: Final = 8192
"""The maximum length of a line in bytes."""


def forward_lines(chunks: Iterable[bytes], say: Callable[[str], None]) -> None:
    """Pass each line that is not empty to `say`; a carriage return also ends a line, and a line that is too long is cut."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        for line in filter(None, lines):
            say(line[:LONGEST].decode(errors="replace"))
    if rest:
        say(rest.decode(errors="replace"))
