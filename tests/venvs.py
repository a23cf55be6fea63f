"""Virtual environments of tests, for programs that no environment of this repository has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def make_venv(folder: Path, *words: str) -> Path:
    """Make a virtual environment; return its folder of packages."""
    uv = str(ROOT / "scripts/machine/uv")
    subprocess.run([uv, "-q", "venv", "--python", sys.executable, str(folder)], check=True)
    if words:
        python = str(folder / "bin/python")
        install = ["pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([uv, "-q", *install, "--python", python, *words], check=True)
    return next(folder.glob("lib/python*/site-packages"))
