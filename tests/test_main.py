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


def test_a_plugin_of_pydantic_that_happens_to_be_installed_takes_no_part_in_reading_documents(tmp_path: Path) -> None:
    """A plugin may replace the validation of every type, and its package may be installed for another purpose."""
    package = tmp_path / "plugin-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[pydantic]\nplugin = plugin:PLUGIN\n")
    (tmp_path / "plugin.py").write_text("print('the plugin is used')\nPLUGIN = None\n")
    environ = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    environ.pop("PYDANTIC_DISABLE_PLUGINS", None)
    code = "import pydantic; pydantic.create_model('M')"
    for first, printed in ((code, "the plugin is used\n"), (f"import trainer; {code}", "")):
        done = subprocess.run([sys.executable, "-c", first], env=environ, capture_output=True, text=True, check=False)
        assert done.stdout == printed
