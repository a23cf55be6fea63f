"""Writing at the end of a log in an attempt's folder: metrics, telemetry, the trace."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final

from trainer.base.run_files import folder_of

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class LogFile:
    """A log that the first line opens and that stays open. A line is with the operating system when `append` returns."""

    def __init__(self, path: Path) -> None:
        """Append to the log at `path`, which is made if it is not there."""
        self.path = path
        self._handle: int | None = None

    def append(self, lines: bytes) -> None:
        """Write whole lines at the end. Raises `OSError`, `UnsafePathError`."""
        if self._handle is None:
            with folder_of(self.path) as folder:
                self._handle = folder.handle(self.path.name, _FLAGS)
            weakref.finalize(self, os.close, self._handle)
        left = memoryview(lines)
        while left:
            left = left[os.write(self._handle, left) :]
