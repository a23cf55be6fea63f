"""The environment of a script's process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from trainer.training.scripts.process import script_environ

if TYPE_CHECKING:
    from pathlib import Path


def test_the_sitecustomize_of_the_environment_is_imported_and_is_no_read_of_the_script(tmp_path: Path) -> None:
    for name in ("output", "source", "environment"):
        (tmp_path / name).mkdir()
    (tmp_path / "environment/sitecustomize.py").write_text("import sys\nsys.found = 'imported'\n")
    (tmp_path / "own.csv").write_text("1")
    report = tmp_path / "report"
    environ = script_environ(
        os.environ,
        imports=[tmp_path / "source"],
        output=tmp_path / "output",
        report=report,
        folders=[],
        device="cpu",
    )
    environ["PYTHONPATH"] += f"{os.pathsep}{tmp_path / 'environment'}"
    script = "import sys; print(sys.found); open('own.csv')"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "imported\n"
    assert report.read_text() == f"reads\t{tmp_path / 'own.csv'}\n"
