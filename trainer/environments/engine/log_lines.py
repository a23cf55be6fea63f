"""What a container prints, line by line.

Knows bytes in pieces. Refuses to know an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST: Final = 8192
"""Bytes of one line that are shown."""


def told(chunks: Iterable[bytes], say: Callable[[str], None]) -> None:
    """Hand over lines as they come, a carriage return ending one too; a line without end is cut."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        for line in filter(None, lines):
            say(line[:LONGEST].decode(errors="replace"))
    if rest:
        say(rest.decode(errors="replace"))
