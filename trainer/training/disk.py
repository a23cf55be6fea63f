"""Writing what a training keeps: a file appears under its name when its bytes are on the disk, or not at all.

Knows how that holds where the run folder is a mount. Refuses to know what is written.

Lightning's own saving goes through another file system and copies over the old file: a kill in that window leaves nothing. Here
`trainer.base.safe_folder` writes: the temporary file is in the same folder, is synced, takes the name, and then the folder is synced.
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
    """Let `write` fill the file `path`: it appears with all its bytes, or not at all. Raises `DiskFullError`, `NotWritableError`."""
    try:
        with folder_of(path, make=True) as folder, folder.whole(path.name, mode=None) as file:
            write(file)
    except (OSError, RuntimeError) as fault:
        raise _disk_fault(fault, path) from fault


class WholeCheckpointIO(CheckpointIO):
    """Lightning's port to the disk, through `write_whole`."""

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
        """Read one of this run's own checkpoints, into this machine's memory; nothing in it is code."""
        del map_location, weights_only
        return self._read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        path = Path(path)
        with folder_of(path) as folder:
            folder.unlink(path.name, missing_ok=True)


def _disk_fault(fault: BaseException, path: Path) -> Exception:
    """Word what the disk said; what writes may raise what is no fault of the disk too, and hide one behind a failure of its own."""
    cause = fault if isinstance(fault, OSError) else fault.__context__
    if isinstance(cause, OSError) and cause.errno is not None:
        return disk_fault(cause, path)
    return fault if isinstance(fault, Exception) else RuntimeError(str(fault))
