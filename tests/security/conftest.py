"""Fixtures for the attacks: stores, runs, a victim's home outside every root, a dataset for a shared cache, a stranger's checkout."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import published
from tests.security.outside import state, victims_folder
from tests.stores.conftest import s3_address, s3_endpoint, s3_environment
from tests.training.conftest import EXPERIMENT, Checkout, checkout

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Checkout", "checkout", "home", "published", "s3_address", "s3_endpoint", "s3_environment"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the runs folder of this machine, which is configured without a store."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("REPRISE_STORE", "")  # no store, not even the store in this checkout's .env
    return tmp_path / "runs"


@pytest.fixture
def store(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a store folder that several users write to, configured for the machine that has `runs`."""
    assert not runs.exists()
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Yield the victim's home, which must be unchanged at the end of the test."""
    folder = victims_folder(tmp_path / "home")
    before = state(folder)
    yield folder
    assert state(folder) == before


HARM = """
import os, pathlib
for _name in os.environ.get("VICTIM_FILE", "").split(":"):
    if _name:
        pathlib.Path(_name).write_text(repr({name: os.environ.get(name) for name in os.environ if name.startswith("AWS")}))
"""
"""Code of an experiment that writes the keys in its environment into a file that the tests look for."""


@pytest.fixture(scope="session")
def stranger(checkout: Checkout) -> Checkout:
    """Return the stranger's checkout, whose experiment contains `HARM`."""
    root = checkout.root.parent / "stranger"
    shutil.copytree(checkout.root, root, ignore=lambda folder, _: ["runs"] if Path(folder) == checkout.root else [])
    (root / "runs").mkdir()
    (root / "dots.py").write_text(EXPERIMENT + HARM)
    return replace(checkout, root=root)


@pytest.fixture
def stolen(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the file that the stranger's code writes, with the keys of its process, if it runs in the victim's checkout."""
    path = checkout.root / "runs/STOLEN.txt"
    path.unlink(missing_ok=True)
    monkeypatch.setenv("VICTIM_FILE", str(path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    return path
