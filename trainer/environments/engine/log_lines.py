"""Splitting the output of a container into lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST: Final = 8192
"""The most bytes of a line that are shown."""


def forward_lines(chunks: Iterable[bytes], say: Callable[[str], None]) -> None:
    """Pass each line to `say`; a carriage return ends a line too, and a line that is too long is cut."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        for line in filter(None, lines):
            say(line[:LONGEST].decode(errors="replace"))
    if rest:
        say(rest.decode(errors="replace"))
