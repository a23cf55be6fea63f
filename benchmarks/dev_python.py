"""Runs a benchmark with the developer's Python, `.venv`, if the Python that started it lacks a library."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".venv"


def require(module: str) -> None:
    """If `module` is not installed, replace this process with the same program in `.venv`; exit if `.venv` also lacks it."""
    if find_spec(module) is not None:
        return
    python = HOME / "bin/python"
    if not python.exists() or Path(sys.prefix) == HOME:
        sys.exit(f"bench: {sys.argv[0]} needs {module}, which {sys.executable} lacks\n  -> scripts/machine/venv dev")
    os.execv(python, [str(python), *sys.argv])  # noqa: S606 - no shell is wanted
