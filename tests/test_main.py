"""`python -m trainer`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "dataclasses.py").write_text("raise KeyboardInterrupt\n")
    environ = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "--version"], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "reprise: stopped by Ctrl-C\n")
