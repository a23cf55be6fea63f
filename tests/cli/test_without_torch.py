"""What the commands import: a host needs no torch, and a command imports no slow library before it needs it."""

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
SLOW: Final = """
import sys
from importlib import import_module
from trainer.cli import COMMANDS
for name, command in COMMANDS.items():
    import_module(f"trainer.cli.{(command.entry or name).partition(':')[0]}")
print(*{"torch", "lightning", "numpy", "docker", "azure", "pyarrow", "matplotlib"} & sys.modules.keys())
"""


def test_every_module_of_the_commands_is_imported_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trainer.cli.process" in done.stdout.split()


def test_no_command_imports_a_slow_library_before_it_runs() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
