"""Fixtures for tests of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the runs folder, with an empty cache and without a store."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REPRISE_STORE", "")  # no store, not even the store in .env of this checkout
    return tmp_path / "runs"
