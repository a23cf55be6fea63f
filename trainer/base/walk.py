"""List the files of a folder if git cannot: all files except known leftovers of tools.

The list of leftovers is short and conservative: a file that is not clearly a leftover is included.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFTOVERS: Final = frozenset(
    {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", "venv", ".tox", ".nox", ".ipynb_checkpoints"}
)
AT_THE_TOP: Final = frozenset({"build", "dist", "runs", "wandb", "lightning_logs", "mlruns", ".cache", ".reprise"})
MARKS: Final = frozenset({"pyvenv.cfg", "CACHEDIR.TAG"})
"""Files that mark their folder as a virtual environment or a cache."""
ENDINGS: Final = (".pyc", ".pyo", ".egg-info", ".dist-info", ".swp", ".partial", "~", ".DS_Store")


def walk(folder: Path) -> Iterator[str]:
    """Yield the relative paths below `folder` in arbitrary order; links are not followed."""
    for here, folders, files in os.walk(folder):
        below = os.path.relpath(here, folder)
        top = below == "."
        if not top and MARKS.intersection(files):
            folders.clear()
            continue
        links = [name for name in folders if Path(here, name).is_symlink()]
        folders[:] = [name for name in folders if name not in links and not _leftover(name, top=top)]
        kept = [name for name in files if name != ".git" and not name.endswith(ENDINGS)]
        kept += [name for name in links if not _leftover(name, top=top)]
        yield from (name if top else f"{below}/{name}" for name in kept)


def _leftover(name: str, *, top: bool) -> bool:
    """Return whether a folder is a leftover. A file named `venv` or `build` may be a user's script."""
    return name in LEFTOVERS or name.endswith(ENDINGS) or (top and name in AT_THE_TOP)
