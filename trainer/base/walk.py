"""The files of a folder where git cannot list them: all but what no source ever is.

Knows a short, conservative list of what tools leave behind. Refuses to guess further: a file that is not plainly a
leftover counts.
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
    """The relative paths below `folder`, links not followed, in no order."""
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
    """Whether a folder is one. A file `venv` or `build` is a script of somebody's."""
    return name in LEFTOVERS or name.endswith(ENDINGS) or (top and name in AT_THE_TOP)
