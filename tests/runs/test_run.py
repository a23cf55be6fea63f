"""The folder of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import start_run
from trainer.base.errors import NotWritableError
from trainer.runs.run import abandon, new_run
from trainer.runs.run_id import is_run_id

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_run_has_a_folder_named_by_its_id(tmp_path: Path) -> None:
    (first, folder), (second, _) = new_run(tmp_path / "runs"), new_run(tmp_path / "runs")
    assert is_run_id(first)
    assert folder == tmp_path / "runs" / first
    assert first != second


def test_a_run_that_never_opened_leaves_no_folder(tmp_path: Path) -> None:
    _, folder = new_run(tmp_path / "runs")
    (folder / "source").mkdir()
    abandon(folder)
    assert not folder.exists()
    kept = start_run(tmp_path / "runs").folder.parents[1]
    abandon(kept)
    assert kept.exists()


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    """As root, the check runs in another user's process, since root can write anywhere."""
    if os.getuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(NotWritableError, match=f"uid {os.getuid()}"):
            new_run(tmp_path / "runs")
        return
    (tmp_path / "runs").mkdir(mode=0o755)
    script = (
        "import os,sys; from pathlib import Path; from trainer.runs.run import new_run; from trainer.base.errors import *\n"
        "os.setuid(4321)\n"
        "try: new_run(Path(sys.argv[1]))\n"
        "except NotWritableError as fault: print(fault.message)"
    )
    for folder in [tmp_path, *tmp_path.parents[:2]]:
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "runs")], capture_output=True, text=True, check=True
    )
    assert "cannot be written by uid 4321" in done.stdout
