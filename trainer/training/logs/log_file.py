"""Writing at the end of a log in an attempt's folder: metrics, telemetry, the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.beneath import run_root

if TYPE_CHECKING:
    from pathlib import Path


def append(path: Path, lines: bytes) -> None:
    """Write whole lines at the end of a log, which is made if it is not there. Raises `OSError`, `UnsafePathError`."""
    with run_root(path.parent) as folder, folder.append(path.name) as file:
        file.write(lines)
