"""Kinds of external documents: valid examples, a function that mutates them, and a function that reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.security.mutation import mutated_bytes
from trainer import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of external document."""

    good: list[bytes]
    read: Callable[[bytes], object]
    change: Callable[[Random, bytes], bytes] = field(default=mutated_bytes)

    def mutated(self, draw: Random) -> bytes:
        """Return a mutated example."""
        return self.change(draw, draw.choice(self.good))


def command(*words: str) -> int:
    """Run a command without the error handling of the command line."""
    return cli._dispatch([*words])
