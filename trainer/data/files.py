"""The interface of a dataset's files for readers: a cached version, or a folder before publication."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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

    def read(self, path: str, /) -> memoryview:
        """Return a file's bytes, verified."""

    def folder(self) -> Path:
        """Return the files as a read-only folder, for libraries that need paths."""
