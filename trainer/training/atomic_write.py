"""Atomic writes of training files: a file appears under its name only when all its bytes are on the disk.

Lightning's own saving uses another file system layer and copies over the old file: a kill during the copy leaves no valid file. Here
`trainer.base.safe_folder` writes a temporary file in the same folder, syncs it, renames it and syncs the folder; this also works if the
run folder is a mount.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.plugins.io import CheckpointIO

from trainer.base.disk_errors import disk_fault
from trainer.base.run_files import folder_of
from trainer.training.resuming.checkpoint_file import read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write the file `path` atomically with the bytes from `write`; raise `DiskFullError` or `NotWritableError`."""
    try:
        with folder_of(path, make=True) as folder, folder.whole(path.name, mode=None) as file:
            write(file)
    except (OSError, RuntimeError) as fault:
        raise _disk_fault(fault, path) from fault


class WholeCheckpointIO(CheckpointIO):
    """Lightning's checkpoint plugin that writes with `write_whole`."""

    def __init__(self, read: Callable[[Path], dict[str, Any]] = read_checkpoint) -> None:
        """Read checkpoints with `read`."""
        self._read = read

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        del storage_options
        write_whole(Path(path), lambda file: write_checkpoint(file, checkpoint))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,  # noqa: FBT001 - Lightning's signature
    ) -> dict[str, Any]:
        """Read a checkpoint of this run into CPU memory; a checkpoint holds no code."""
        del map_location, weights_only
        return self._read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        path = Path(path)
        with folder_of(path) as folder:
            folder.unlink(path.name, missing_ok=True)


def _disk_fault(fault: BaseException, path: Path) -> Exception:
    """Return the error for a disk failure; `write` may also raise other errors, or hide a disk error behind its own."""
    cause = fault if isinstance(fault, OSError) else fault.__context__
    if isinstance(cause, OSError) and cause.errno is not None:
        return disk_fault(cause, path)
    return fault if isinstance(fault, Exception) else RuntimeError(str(fault))
