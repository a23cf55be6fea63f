"""A folder as the files of a dataset, to try a reader before publishing. Nothing is verified."""

from __future__ import annotations

import mmap
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean
from trainer.data.file_names import reason_to_leave_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _is_left_out(name: str) -> bool:
    return bool(reason_to_leave_out(name, has_hidden=False))


class Folder:
    """The files below `root`."""

    def __init__(self, root: Path, paths: Sequence[str] | None = None) -> None:
        """Use the files `paths` of this folder, sorted by their UTF-8 bytes; all files if None."""
        self._root, self._paths = root, paths

    @cached_property
    def paths(self) -> Sequence[str]:
        """Return the relative paths: the selected paths, or all files that would be published, sorted by their UTF-8 bytes."""
        if self._paths is not None:
            return self._paths
        found = (path.relative_to(self._root) for path in self._root.rglob("*") if path.is_file())
        kept = (path.as_posix() for path in found if not any(map(_is_left_out, path.parts)))
        return sorted(kept, key=os.fsencode)

    def view(self, path: str, /) -> memoryview:
        """Return the memory-mapped bytes of a file."""
        try:
            with (self._root / path).open("rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0
                return memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as fault:
            hint = did_you_mean(path, self.paths)
            raise DatasetError(f"{self._root / path} cannot be read: {fault.strerror}", hint=hint) from fault

    def require(self, path: str, /, start: int = 0, stop: int | None = None) -> None:
        """Do nothing: the files are not verified."""

    def read(self, path: str, /) -> memoryview:
        """Return the memory-mapped bytes of a file."""
        return self.view(path)

    def folder(self) -> Path:
        """Return the folder."""
        return self._root

    def __getstate__(self) -> dict[str, Any]:
        """Return the path and the selected files, without cached properties."""
        return {"_root": self._root, "_paths": self._paths}
