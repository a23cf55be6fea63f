"""Virtual environments with packages installed by hash, for programs that no environment of Reprise has."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

_UV: Final = Path(__file__).parents[1] / "scripts/machine/uv"


def make_venv(folder: Path, *words: str) -> Path:
    """Create a virtual environment with the packages that `words`, arguments of pip, name; return its folder of packages."""
    subprocess.run([str(_UV), "-q", "venv", "--python", sys.executable, str(folder)], check=True)
    if words:
        python = str(folder / "bin/python")
        install = ["pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([str(_UV), "-q", *install, "--python", python, *words], check=True)
    return next(folder.glob("lib/python*/site-packages"))


def make_client(folder: Path, requirements: Path) -> str:
    """Create an environment `server` with the requirements, and `client` with the packages of this process and then those of `server`.

    Return the Python of `client`.
    """
    server = make_venv(folder / "server", "-r", str(requirements))
    own = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    (make_venv(folder / "client") / "packages.pth").write_text("".join(f"{path}\n" for path in [*own, server]))
    return str(folder / "client/bin/python")
