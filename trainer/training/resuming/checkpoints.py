"""Checkpoints: after each epoch and every so many steps, the last two kept, and the best where something is monitored.

Knows when one is made, and what is in it besides what Lightning gathers: the place in the run, how far the logs went, the averages of
the epoch. Refuses to know how a file appears whole (`trainer.training.disk`) and how Lightning counts (`trainer.training.resuming.place`).

One is made between two batches and never within a hook of a step: by then whatever the step had to log is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

from trainer.base.digest import digest_of_file, digest_of_open
from trainer.base.document import read_json_below
from trainer.base.errors import DigestMismatchError, SettingError
from trainer.base.run_files import folder_of
from trainer.base.suggestions import did_you_mean
from trainer.runs.checkpoint_pointer import BEST, LATEST, PREVIOUS, Checkpoint, NextStage, Saved
from trainer.settings.ledger import configured
from trainer.training.disk import write_whole
from trainer.training.resuming.averages import averages_of, restore_averages
from trainer.training.resuming.checkpoint_file import read_checkpoint, read_open_checkpoint
from trainer.training.resuming.checkpoint_schema import require_servable, require_whole
from trainer.training.resuming.place import end_restart, keep_sums, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import IO

    import lightning as L

    Logs = Callable[[], dict[str, int]]


@configured
class Checkpoints(Callback):
    """Saves after each epoch and every `checkpoint_every` steps; comes before whatever begins a batch."""

    def __init__(
        self,
        folder: Path,
        logs: Logs,
        *,
        run: str,
        checkpoint_every: int | None,
        monitor: str | None,
        monitor_mode: str,
    ) -> None:
        """Keep the checkpoints of `run` in `folder`; `logs` tells how many bytes each log has once it is written out."""
        self.folder, self.logs, self.run = folder, logs, run
        self.every = checkpoint_every
        self.monitor = monitor
        self.sign = 1.0 if monitor_mode == "min" else -1.0
        self.best_value = float("inf")
        self.last: Saved | None = None
        self.saved: tuple[int, bool] = (0, False)
        """The step of the last checkpoint, and whether its validation was still to come; `last` is known to the first rank alone."""
        self.due = False
        self.is_best = False
        self.before = 0
        """Optimizer steps made when the batch began."""
        self.summing = False
        """Whether gradients are summed up that no step has used."""
        self.results: dict[str, float] = {}
        """What was validated of the weights as they are now."""
        self.undefined: dict[str, str] = {}
        """Why a metric among `results` is NaN."""
        self.adding: dict[str, Any] = {}
        """What the checkpoint that is being made gets besides Lightning's."""
        self.restored: dict[str, Any] | None = None
        self.restoring = False
        """Whether a checkpoint was read, and training has not begun with it yet."""

    def go_on_from(self, saved: Saved) -> None:
        """Know the checkpoint that a resumed attempt begins with: its files are in the folder."""
        self.last, self.saved = saved, (saved.step, saved.stage is NextStage.VALIDATION)

    def read(self, path: Path) -> dict[str, Any]:
        """Read the checkpoint to resume from. Raises `DocumentError`, and `DigestMismatchError` if it is another run's."""
        self.restoring = True
        checkpoint = read_checkpoint(path)
        require_whole(checkpoint, run=self.run)
        return checkpoint

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise `SettingError` where what is monitored will not be measured. Go on with the averages, if this is resumed."""
        measured = getattr(pl_module, "validated", ())
        if self.monitor is not None and self.monitor not in measured:
            raise SettingError(
                f"setting monitor is {self.monitor!r}, which this task does not measure",
                hint=did_you_mean(self.monitor, measured),
            )
        if self.restored is not None:
            restore_averages(trainer, self.restored["averages"])
            if self.restored["stage"] is not NextStage.EPOCH:
                keep_sums(trainer)
        self.restoring = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the end of the epoch before: all that it logged is written by now."""
        del pl_module
        self.save_if_due(trainer, NextStage.EPOCH)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Save the step before, where its turn came."""
        del pl_module, batch
        end_restart(trainer)
        self.save_if_due(trainer, NextStage.BATCH, batch=batch_idx)
        self.before = trainer.global_step
        self.results, self.undefined = {}, {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Note where a step's turn has come; after an epoch's last one comes the epoch's own."""
        del pl_module, outputs, batch, batch_idx
        self.summing = trainer.global_step == self.before
        ends = trainer.is_last_batch or trainer.global_step == trainer.max_steps
        self.due = bool(self.every) and not self.summing and not ends and trainer.global_step % (self.every or 1) == 0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Be in the epoch as if it had never been left."""
        del pl_module
        end_restart(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep what was measured: it is of these weights only."""
        del trainer
        self.results, self.undefined = _validated(pl_module, "results"), _validated(pl_module, "undefined")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the epoch's end, and whether it is the best."""
        del pl_module
        self.due = True
        if self.monitor is not None and self.monitor in trainer.callback_metrics:
            value = self.sign * float(trainer.callback_metrics[self.monitor])
            self.is_best = value < self.best_value  # NaN is never the best, and leaves the best as it is
            self.best_value = value if self.is_best else self.best_value

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last epoch's end."""
        del pl_module
        self.save_if_due(trainer, NextStage.END)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take back what was added. Raises `DigestMismatchError`, `DocumentError` if the best checkpoint could not be served at the end."""
        del trainer
        best = self.last.best if self.last else None
        if self.last is not None and best is not None and best.path != self.last.path:
            require_servable(read_saved(self.folder, best), pl_module, run=self.run)
        self.restored = checkpoint["reprise"]
        self.results = self.restored["results"]
        self.undefined = self.restored.get("undefined", {})
        self.best_value = self.restored["best_value"]

    def save_if_due(self, trainer: L.Trainer, stage: NextStage, *, batch: int = 0) -> None:
        """Save where a hook before said so."""
        if self.due:
            self.save(trainer, stage, batch=batch)

    def save(self, trainer: L.Trainer, stage: NextStage, *, batch: int = 0) -> None:
        """Save now, at a place between two batches, and point `latest.json` at it; once for a step, and once more when it is validated."""
        self.due = False
        before = stage is NextStage.VALIDATION
        if self.saved in {(trainer.global_step, before), (trainer.global_step, False)}:
            return
        self.saved = (trainer.global_step, before)
        path = self.folder / f"step-{trainer.global_step:09d}{'-unvalidated' if before else ''}.safetensors"
        logs = self.logs()
        self.adding = {
            "run": self.run,
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "batch": batch,
            "stage": stage,
            "results": self.results,
            "undefined": self.undefined,
            "best_value": self.best_value,
            "averages": averages_of(trainer),
        }
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            self._point_at(path, stage=stage, batch=batch, logs=logs, epoch=trainer.current_epoch)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the place in the run, and have Lightning's own counts say the same."""
        del trainer, pl_module
        checkpoint["reprise"] = self.adding
        settle(checkpoint["loops"], **{name: self.adding[name] for name in ("stage", "epoch", "batch")})

    def _point_at(self, path: Path, *, stage: NextStage, batch: int, logs: dict[str, int], epoch: int) -> None:
        mine = Checkpoint(path=path.name, sha256=digest_of_file(path), step=self.adding["step"])
        best = mine if self.is_best else (self.last and self.last.best)
        saved = Saved(**mine.model_dump(), epoch=epoch, batch=batch, stage=stage, logs=logs, best=best)
        before, self.last, self.is_best = self.last, saved, False
        if before is not None:
            write_whole(self.folder / PREVIOUS, _writing(before.to_json()))
        write_whole(self.folder / LATEST, _writing(saved.to_json()))
        if best is not None:
            write_whole(self.folder / BEST, _writing(best.model_dump_json().encode() + b"\n"))
        self._tidy([saved, before] if before else [saved])

    def _tidy(self, kept: list[Saved]) -> None:
        named = {one.path for one in kept} | {one.best.path for one in kept if one.best}
        with folder_of(self.folder / LATEST) as folder:
            for old in folder.names():
                if old.startswith("step-") and "." in old and old not in named:
                    folder.unlink(old, missing_ok=True)


def _validated(net: L.LightningModule, kept: str) -> dict[str, Any]:
    return {name: each for name, each in getattr(net, kept, {}).items() if name.startswith("val_")}


def served(folder: Path) -> Checkpoint:
    """Name the checkpoint that the run stands for: the best where something was monitored, else the last."""
    with folder_of(folder / LATEST) as held:
        if held.stat(BEST) is not None:
            return read_json_below(held, BEST, Checkpoint)
        return read_json_below(held, LATEST, Saved)


def epoch_of(place: Mapping[str, Any]) -> int:
    """Say in which epoch a checkpoint was made, the first being 1; at an epoch's end the epoch that ended."""
    between = place["stage"] in {NextStage.EPOCH, NextStage.END} or (
        place["stage"] is NextStage.BATCH and place["batch"] == 0
    )
    return int(place["epoch"]) + (not between)


def read_saved(folder: Path, saved: Checkpoint) -> dict[str, Any]:
    """Read a checkpoint of this run. Raises `DigestMismatchError` where its bytes are not those that were written, `DocumentError`."""
    with folder_of(folder / LATEST) as held, held.open(saved.path) as file:
        found = digest_of_open(file)
        if found != saved.sha256:
            raise DigestMismatchError(
                f"checkpoint {saved.path}: expected {saved.sha256}, found {found}", hint="train again"
            )
        return read_open_checkpoint(file, folder / saved.path)


def _writing(data: bytes) -> Callable[[IO[bytes]], object]:
    return lambda file: file.write(data)
