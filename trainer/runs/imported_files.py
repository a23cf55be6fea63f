"""The files of a source tree that this process imported.

Files that code only opens, and imports of other processes, are not covered.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_document, digest_of_file
from trainer.runs.record import Imported

if TYPE_CHECKING:
    from collections.abc import Iterable


def read_imported(root: Path) -> Imported | None:
    """Return the imported files below `root`; `None` if one of them cannot be read."""
    paths = sorted(_paths(root))
    try:
        digests = {path: digest_of_file(root / path) for path in paths}
    except OSError:
        return None
    return Imported(digest=digest_of_document(digests), files=paths)


def _paths(root: Path) -> set[str]:
    return {
        file.relative_to(root).as_posix()
        for file in _files(list(sys.modules.values()))
        if file.is_relative_to(root) and not file.is_relative_to(sys.prefix)
    }


def _files(modules: Iterable[object]) -> Iterable[Path]:
    for module in modules:
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str):
            yield Path(file)
