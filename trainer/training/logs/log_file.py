"""Append-only log files in the folder of an attempt: metrics, telemetry, the trace."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final

from trainer.base.run_files import folder_of

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class LogFile:
    """A log file that is opened at the first write and stays open. `append` returns after the write to the operating system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def append(self, lines: bytes) -> None:
        """Append whole lines. Raise `OSError` if they cannot be written, `UnsafePathError` if the path has a link or a wrong owner."""
        if self._handle is None:
            with folder_of(self.path) as folder:
                self._handle = folder.handle(self.path.name, _FLAGS)
            weakref.finalize(self, os.close, self._handle)
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
