"""Records flushes to disk, because a power failure cannot be tested."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def record_flushes(monkeypatch: pytest.MonkeyPatch, below: Path) -> list[tuple[str, int]]:
    """Record flushes below a folder from now on, as `folder` or `file` with the size of the file."""
    found: list[tuple[str, int]] = []
    flush = os.fsync

    def noted(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_relative_to(below):
            found.append(("folder", 0) if path.is_dir() else ("file", path.stat().st_size))
        flush(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return found
