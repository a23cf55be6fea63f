"""What the trials start from: stores, runs, a victim's home outside of every root, and a dataset to fetch into a shared cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.actions.conftest import published
from tests.security.outside import state, victims_folder
from tests.store.conftest import s3_address, s3_endpoint, s3_environment
from tests.training.conftest import Checkout, checkout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Checkout", "checkout", "home", "published", "s3_address", "s3_endpoint", "s3_environment"]


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


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The victim's home, unchanged at the end."""
    folder = victims_folder(tmp_path / "home")
    before = state(folder)
    yield folder
    assert state(folder) == before
