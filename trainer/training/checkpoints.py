"""Checkpoints: written whole or not at all, the last two kept, and the best where something is monitored.

Knows how a file appears under its name only when its bytes are on the disk, also where the run folder is a mount. Refuses to know
what is inside: Lightning gathers model, optimizer, schedule and progress; this adds the run, the step and the batch.

Lightning's own saving goes through another file system and copies over the old file: a kill in that window leaves nothing. Here the
temporary file is in the same folder, is synced, takes the name, and then the folder is synced.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO

from trainer.digest import digest_of_file
from trainer.errors import AlteredError, DiskFullError, NotWritableError, SettingError
from trainer.ledger import configured
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    import lightning as L

KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint on the disk: `latest.json` and `best.json` hold one each."""

    path: str
    sha256: str
    step: int
    epoch: int
    batch: int


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill the file `path`: it appears with all its bytes, or not at all. Raises `DiskFullError`, `NotWritableError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as fault:
        raise _disk_fault(fault, path) from fault
    finally:
        temporary.unlink(missing_ok=True)


class WholeCheckpointIO(CheckpointIO):
    """Lightning's port to the disk, through `write_whole`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        del storage_options
        write_whole(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,  # noqa: FBT001 - Lightning's signature
    ) -> dict[str, Any]:
        """Read one of this run's own checkpoints."""
        loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=bool(weights_only))
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


@configured
class Checkpoints(Checkpoint):
    """Saves after each epoch and every `checkpoint_every` steps."""

    def __init__(
        self, folder: Path, *, run: str, checkpoint_every: int | None, monitor: str | None, monitor_goal: str
    ) -> None:
        """Keep the checkpoints of `run` in `folder`."""
        self.folder = folder
        self.run = run
        self.every = checkpoint_every
        self.monitor = monitor
        self.sign = 1.0 if monitor_goal == "lowest" else -1.0
        self.best_value = float("inf")
        self.batch = 0
        self.before = 0
        """Optimizer steps made when the batch began."""
        self.results: dict[str, float] = {}
        """What was validated of the weights as they are now."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise `SettingError` where what is monitored will not be measured."""
        del trainer
        measured = getattr(pl_module, "validated", ())
        if self.monitor is not None and self.monitor not in measured:
            raise SettingError(
                f"setting monitor is {self.monitor!r}, which this task does not measure",
                hint=did_you_mean(self.monitor, measured),
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Count the batch now: Lightning moves this callback last, so others ask for a checkpoint before it sees the batch end."""
        del pl_module, batch
        self.batch = batch_idx + 1
        self.before = trainer.global_step
        self.results = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save where a step's turn has come; the last batch's is the epoch's end."""
        del pl_module, outputs, batch, batch_idx
        if self.every and self.stepped(trainer) and trainer.global_step % self.every == 0 and not _ends(trainer):
            self.save(trainer)

    def stepped(self, trainer: L.Trainer) -> bool:
        """Tell whether the optimizer stepped after this batch: no checkpoint holds gradients that are still being summed up."""
        return trainer.global_step != self.before

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count batches from the start of the epoch."""
        del trainer, pl_module
        self.batch = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep what was measured: it is of these weights only."""
        del trainer
        self.results = {name: value for name, value in getattr(pl_module, "results", {}).items() if name[:4] == "val_"}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the epoch's end, and note it if it is the best."""
        del pl_module
        self.save(trainer)
        if self.monitor is None or self.monitor not in trainer.callback_metrics or not trainer.is_global_zero:
            return
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value < self.best_value:
            self.best_value = value
            write_whole(self.folder / "best.json", _writing((self.folder / "latest.json").read_bytes()))
            self._tidy()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the place in the run: Lightning's own count of finished batches still lags by one within a step."""
        del pl_module
        checkpoint["reprise"] = {
            "run": self.run,
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "batch": self.batch,
            "results": self.results,
        }

    def save(self, trainer: L.Trainer) -> None:
        """Save now, and point `latest.json` at it."""
        path = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            saved = Saved(
                path=path.name,
                sha256=digest_of_file(path),
                step=trainer.global_step,
                epoch=trainer.current_epoch,
                batch=self.batch,
            )
            write_whole(self.folder / "latest.json", _writing(json.dumps(asdict(saved)).encode()))
            self._tidy()

    def _tidy(self) -> None:
        best = served(self.folder).path
        for old in sorted(self.folder.glob("step-*.ckpt"))[:-KEPT]:
            if old.name != best:
                old.unlink(missing_ok=True)


def served(folder: Path) -> Saved:
    """Name the checkpoint that the run stands for: the best where something was monitored, else the last."""
    best = folder / "best.json"
    return Saved(**json.loads((best if best.exists() else folder / "latest.json").read_bytes()))


def read_saved(folder: Path, saved: Saved) -> dict[str, Any]:
    """Read a checkpoint of this run. Raises `AlteredError` where its bytes are not those that were written: loading it runs code."""
    path = folder / saved.path
    found = digest_of_file(path)
    if found != saved.sha256:
        raise AlteredError(f"checkpoint {saved.path}: expected {saved.sha256}, found {found}", hint="train again")
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return loaded


def _ends(trainer: L.Trainer) -> bool:
    """Tell whether the epoch's end saves this step: two checkpoints of one step would have one name."""
    return trainer.is_last_batch or trainer.global_step == trainer.max_steps


def _writing(data: bytes) -> Callable[[IO[bytes]], object]:
    return lambda file: file.write(data)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_fault(fault: BaseException, path: Path) -> Exception:
    cause = fault if isinstance(fault, OSError) else fault.__context__
    match getattr(cause, "errno", None):
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFullError(
                f"no space left to write {path}", hint="free space, then run again; the last checkpoint is whole"
            )
        case errno.EACCES | errno.EROFS | errno.EPERM:
            return NotWritableError(
                f"{path} cannot be written by this user", hint="change the folder's owner or permissions"
            )
        case _:
            return fault if isinstance(fault, Exception) else RuntimeError(str(fault))
