"""A dataset's files for readers: the interface, and a folder before publication."""

from __future__ import annotations

import mmap
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean
from trainer.data.source_folder import SourceFolder, open_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Files(Protocol):
    """A dataset's files, read-only. Instances can be pickled and forked for loader workers."""

    @property
    def paths(self) -> Sequence[str]:
        """All relative paths, sorted by their UTF-8 bytes."""

    def view(self, path: str, /) -> memoryview:
        """Return a file's bytes without copying or verifying them."""

    def require(self, path: str, /, start: int = 0, stop: int | None = None) -> None:
        """Verify the bytes from `start` to `stop`, once in each process. Raises `DigestMismatchError`."""
        del path, start, stop  # nothing is verified

    def read(self, path: str, /) -> memoryview:
        """Return a file's bytes, verified."""
        self.require(path)
        return self.view(path)

    def folder(self) -> Path:
        """Return the files as a read-only folder, for libraries that need paths."""


class FolderFiles(Files):
    """The files below a folder, to check them or to try a reader before they are published."""

    def __init__(self, root: Path, paths: Sequence[str] | None = None) -> None:
        """Use the files `paths` of this folder, sorted by their UTF-8 bytes; by default all files that would be published."""
        self._root, self._paths = root, paths

    @cached_property
    def paths(self) -> Sequence[str]:
        """Return the relative paths."""
        return SourceFolder(root=self._root).paths() if self._paths is None else self._paths

    def view(self, path: str, /) -> memoryview:
        """Return the memory-mapped bytes of a file."""
        try:
            file = open_file(self._root / path)
        except DatasetError as fault:
            hint = fault.hint if path in self.paths else did_you_mean(path, self.paths)
            raise DatasetError(fault.message, hint=hint) from fault
        with file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b"")

    def folder(self) -> Path:
        """Return the folder."""
        return self._root

    def __getstate__(self) -> dict[str, Any]:
        """Return the path and the selected files, without cached properties."""
        return {"_root": self._root, "_paths": self._paths}
