"""What a reader may ask of a dataset's files, wherever they are: in the cache, or in a folder that is not published yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Files(Protocol):
    """A dataset's files, read-only. It can be pickled and forked: loader workers have it too."""

    @property
    def paths(self) -> Sequence[str]:
        """All relative paths, sorted by their UTF-8 bytes."""

    def view(self, path: str, /) -> memoryview:
        """The file's bytes without a copy, not verified yet."""

    def require(self, path: str, /, start: int = 0, stop: int | None = None) -> None:
        """Verify the bytes from `start` to `stop`, once in a process. Raises `DigestMismatchError` if they are not the published ones."""

    def read(self, path: str, /) -> memoryview:
        """The file's bytes, verified."""

    def folder(self) -> Path:
        """The files as a read-only folder, for a library that wants paths."""
