"""Virtual environments with packages by hash, for programs that are in no environment of Reprise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

_UV: Final = Path(__file__).parents[1] / "scripts/machine/uv"


def make_venv(folder: Path, *words: str) -> Path:
    """Make a virtual environment with the packages that these words name; return its folder of packages."""
    subprocess.run([str(_UV), "-q", "venv", "--python", sys.executable, str(folder)], check=True)
    if words:
        python = str(folder / "bin/python")
        install = ["pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([str(_UV), "-q", *install, "--python", python, *words], check=True)
    return next(folder.glob("lib/python*/site-packages"))
