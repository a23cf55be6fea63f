"""Stores of tests/store and the checkout of tests/training, here too; this machine's runs, and a store that neighbors write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.conftest import s3_address, s3_endpoint, s3_environment
from tests.training.conftest import checkout

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["checkout", "s3_address", "s3_endpoint", "s3_environment"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's runs."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("REPRISE_STORE", raising=False)
    return tmp_path / "runs"


@pytest.fixture
def store(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store folder that several users write to, configured for the machine that has `runs`."""
    assert not runs.exists()
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    return tmp_path / "store"
