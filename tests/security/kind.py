"""A kind of document that comes from outside: good ones, how they are changed, and what reads them as the commands do."""

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
    """Good documents, and what reads one."""

    good: list[bytes]
    read: Callable[[bytes], object]
    change: Callable[[Random, bytes], bytes] = field(default=mutated_bytes)

    def mutated(self, draw: Random) -> bytes:
        """One of the good ones, changed."""
        return self.change(draw, draw.choice(self.good))


def command(*words: str) -> int:
    """A command, without what words its failure."""
    return cli._dispatch([*words])
