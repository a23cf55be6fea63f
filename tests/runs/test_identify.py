"""The files of a source tree that a process has imported."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from trainer.runs.identify import read_imported

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_only_imported_files_count_by_path_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pack").mkdir()
    for name in ("pack/__init__.py", "pack/part_of_it.py", "idle_here.py", "README.md"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("pack.part_of_it")
    found = read_imported(tmp_path)
    assert found is not None
    assert found.files == ["pack/__init__.py", "pack/part_of_it.py"]
    (tmp_path / "README.md").write_text("new\n")
    assert read_imported(tmp_path) == found
    (tmp_path / "pack/part_of_it.py").write_text("x = 2\n")
    assert read_imported(tmp_path) != found
    (tmp_path / "pack/part_of_it.py").unlink()
    assert read_imported(tmp_path) is None
    for name in ("pack", "pack.part_of_it"):
        monkeypatch.delitem(sys.modules, name)


def test_installed_packages_are_not_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/installed_here.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path / ".venv")
    importlib.import_module("installed_here")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    found = read_imported(tmp_path)
    assert found is not None
    assert found.files == []
    monkeypatch.delitem(sys.modules, "installed_here")
