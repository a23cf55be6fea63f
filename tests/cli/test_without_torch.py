"""A host without torch: every command can be imported there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
IMPORT_ALL: Final = """
import importlib, pkgutil, sys
for name in ("torch", "lightning", "torchmetrics", "safetensors", "pyarrow"):
    sys.modules[name] = None
import trainer.cli
for module in pkgutil.walk_packages(trainer.cli.__path__, "trainer.cli."):
    importlib.import_module(module.name)
    print(module.name)
"""


def test_every_module_of_the_commands_is_imported_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trainer.cli.process" in done.stdout.split()
