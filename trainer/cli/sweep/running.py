"""A point of a sweep while it runs: its process, its place, and what it said since it was asked last.

Knows how lines of compose's own begin, which are passed over. Refuses to know how it ends.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.sweeps.folder import LOGS, sweep_root

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

_COMPOSE: Final = (" Container ", " Network ", " Volume ", "time=")
"""How lines of compose's own begin."""


@dataclass(slots=True, kw_only=True)
class Running:
    """A point under way."""

    number: int
    run: str
    log: Path
    process: subprocess.Popen[bytes] | None
    """None where an earlier process of the sweep started it."""
    slot: int | None
    resumes: bool = False
    seen: bool = False
    read: int = 0
    """How much of its log was passed on."""
    began: float = field(default_factory=monotonic)

    def lines(self) -> Iterator[str]:
        """The whole lines that it wrote since it was asked last."""
        with suppress(OSError), sweep_root(self.log.parents[1]) as sweep, sweep.open(f"{LOGS}/{self.log.name}") as log:
            log.seek(self.read)
            whole = log.read().rpartition(b"\n")
            self.read += len(whole[0]) + len(whole[1])
            for line in whole[0].decode(errors="replace").splitlines():
                if line.strip() and not line.startswith(_COMPOSE):
                    yield line.rstrip()
