"""A folder that is to become a dataset.

Knows how files are listed, hashed and read. Notices a file that is edited meanwhile: whoever reads again compares with the first digest.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.data.packing import PACK_BYTES, Hashed, Slice
from trainer.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.data.dataset import Described

_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFolder:
    """The files below `root`. Links to files are followed, links to folders refused; empty folders are not kept."""

    root: Path
    part_bytes: int = PACK_BYTES
    """Where files are cut."""
    inspect: Callable[[Described, Sequence[str]], None] | None = None
    """What reads the samples, as a draft says, before anything is uploaded; it raises `DatasetError`."""

    def paths(self) -> list[str]:
        """The relative paths of all files, sorted by their UTF-8 bytes."""
        if not self.root.is_dir():
            raise DatasetError(f"{self.root} is not a folder", hint="name the folder that holds the dataset's files")
        found: list[str] = []
        for here, folders, files in os.walk(self.root, onerror=_unreadable):
            if linked := next((path for path in map(Path(here).joinpath, folders) if path.is_symlink()), None):
                raise DatasetError(f"{linked} is a link to a folder", hint="copy the folder, or publish its target")
            below = os.path.relpath(here, self.root)
            found += files if below == "." else [f"{below}/{name}" for name in files]
        return sorted(found, key=os.fsencode)

    def hashed(self, path: str) -> Hashed:
        """Read a file once, in blocks, and name it and its parts."""
        whole, parts, size = hashlib.sha256(), [], 0
        try:
            with (self.root / path).open("rb", buffering=0) as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise DatasetError(f"{self.root / path} is no regular file", hint="remove it from the folder")
                # No block crosses from one part into the next, also where a read gives fewer bytes than it was asked for.
                while block := file.read(min(_BLOCK, self.part_bytes - size % self.part_bytes, found.st_size + 1)):
                    if size % self.part_bytes == 0:
                        parts.append(hashlib.sha256())
                    if found.st_size > self.part_bytes:
                        parts[-1].update(block)
                    whole.update(block)
                    size += len(block)
        except OSError as fault:
            raise _gone(self.root / path, fault) from fault
        if size != found.st_size:
            raise edited(self.root / path)
        # A file of one part is that part: it is hashed once.
        digests = tuple(f"sha256:{part.hexdigest()}" for part in parts) if size > self.part_bytes else ()
        return Hashed(path=path, size=size, sha256=f"sha256:{whole.hexdigest()}", parts=digests)

    def read(self, piece: Slice) -> bytes:
        """The bytes of a slice; fewer if the file has become shorter."""
        try:
            with (self.root / piece.path).open("rb") as file:
                file.seek(piece.start)
                return file.read(piece.length)
        except OSError as fault:
            raise _gone(self.root / piece.path, fault) from fault


def edited(path: Path | str) -> DatasetError:
    """The error for a file that changed between the first reading and the second."""
    return DatasetError(
        f"{path} was edited while it was published; nothing has been named", hint="type the same command again"
    )


def _gone(path: Path, fault: OSError) -> DatasetError:
    return DatasetError(
        f"{path} cannot be read: {fault.strerror}", hint="nothing has been named; type the same command again"
    )


def _unreadable(fault: OSError) -> None:
    raise DatasetError(f"{fault.filename} cannot be read: {fault.strerror}", hint="change its permissions") from fault
