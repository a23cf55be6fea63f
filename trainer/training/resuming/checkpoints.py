"""Checkpoints: one after each epoch and every `checkpoint_every` steps; the last two are kept, and the best by the monitored metric.

A checkpoint adds the position in the run, the validation results and the averages of the epoch to Lightning's contents; `latest.json`
has the sizes of the logs. A checkpoint is written between two steps, so that all values that a step logs are in the logs. A stop request
ends training after such a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from trainer.base.digest import digest_of_file, digest_of_open
from trainer.base.document import read_json_below
from trainer.base.errors import DigestMismatchError, SettingError
from trainer.base.run_files import folder_of
from trainer.base.suggestions import did_you_mean
from trainer.runs.checkpoint_pointer import BEST, LATEST, PREVIOUS, Checkpoint, NextStage, Saved
from trainer.settings.ledger import configured
from trainer.training.atomic_write import write_whole
from trainer.training.results import evaluated, is_plain, results_of, undefined_of
from trainer.training.resuming.checkpoint_file import (
    read_checkpoint,
    read_open_checkpoint,
    require_servable,
    require_whole,
)
from trainer.training.resuming.lightning_state import (
    averages_of,
    end_restart,
    keep_sums,
    modes_of,
    restore_averages,
    restore_modes,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    import lightning as L

    Logs = Callable[[], dict[str, int]]


_NOT_NEEDED: Final = ("hyper_parameters", "hparams_name", "hparams_type", "datamodule_hyper_parameters")
"""The keys that `save_hyperparameters` adds. The record holds every value, and a checkpoint cannot hold some of these values."""


@configured
class Checkpoints(Callback):
    """Save after each epoch and every `checkpoint_every` steps. This callback must come before callbacks that begin a batch."""

    def __init__(
        self,
        folder: Path,
        logs: Logs,
        *,
        run: str,
        checkpoint_every: int | None,
        monitor: str | None,
        monitor_mode: str,
        strategy: str | None = None,
        saves_within_epoch: Callable[[], bool] = lambda: True,
        on_saved: Callable[[Saved], None] = lambda _: None,
    ) -> None:
        """Store the checkpoints of `run` in `folder`; `logs` flushes the logs and returns their sizes in bytes.

        `saves_within_epoch` returns whether a run can resume within an epoch; rank 0 calls `on_saved` with each checkpoint.
        """
        self.saves_within_epoch, self.on_saved = saves_within_epoch, on_saved
        self.folder, self.logs, self.run = folder, logs, run
        self.every = checkpoint_every
        self.is_distributed = strategy is not None
        """Whether each rank copies only its own rows from a checkpoint."""
        self.monitor = monitor
        self.sign = 1.0 if monitor_mode == "min" else -1.0
        self.best_value = float("inf")
        self.last: Saved | None = None
        self.saved: tuple[int, bool] = (0, False)
        """The step of the last checkpoint, and whether a validation was to follow; set on every rank, unlike `last`."""
        self.due = False
        self.is_best = False
        self.before = 0
        """The number of optimizer steps before the current batch."""
        self.summing = False
        """Whether gradients are accumulated that no step has used yet."""
        self.results: dict[str, float] = {}
        """The validation metrics of the current weights."""
        self.undefined: dict[str, str] = {}
        """The reason for each NaN among `results`."""
        self.adding: dict[str, Any] = {}
        """The values that the current checkpoint adds to Lightning's."""
        self.restored: dict[str, Any] | None = None
        self.restoring = False
        """Whether a checkpoint was read, and training has not yet resumed from it."""

    def resume_from(self, saved: Saved) -> None:
        """Set the checkpoint from which this attempt resumes; its files are in the folder."""
        self.last, self.saved = saved, (saved.step, saved.stage is NextStage.VALIDATION)

    def read(self, path: Path) -> dict[str, Any]:
        """Read the checkpoint to resume from. Raise `DocumentError` if it is invalid, `DigestMismatchError` if another run wrote it."""
        self.restoring = True
        checkpoint = read_checkpoint(path, is_mapped=self.is_distributed)
        require_whole(checkpoint, run=self.run)
        return checkpoint

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise `SettingError` if the task does not measure the monitored metric; restore the averages of a resumed run."""
        if not is_plain(pl_module):
            self._require_measured(getattr(pl_module, "validated", ()))
        if self.restored is not None:
            restore_averages(trainer, self.restored["averages"])
            restore_modes(pl_module, self.restored.get("modes", {}))
            if self.restored["stage"] is not NextStage.EPOCH:
                keep_sums(trainer)
        self.restoring = False

    def _require_measured(self, measured: Collection[str]) -> None:
        if self.monitor is not None and self.monitor not in measured:
            raise SettingError(
                f"setting monitor is {self.monitor!r}, which this experiment does not measure",
                hint=did_you_mean(self.monitor, measured),
            )

    def on_train_epoch_start(self, trainer: L.Trainer, *_: object) -> None:
        """Save a checkpoint of the previous epoch; all its values are logged by now."""
        self._end_plain_epoch(trainer)
        self.save_if_due(trainer, NextStage.EPOCH)

    def on_train_batch_start(self, trainer: L.Trainer, _net: object, _batch: object, batch_idx: int) -> None:
        """Save a checkpoint of the previous step if it is due."""
        end_restart(trainer)
        self.save_if_due(trainer, NextStage.BATCH, batch=batch_idx)
        self.before = trainer.global_step
        self.results, self.undefined = {}, {}

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Determine whether a checkpoint is due after this step; for the last step of an epoch, the epoch's checkpoint is saved."""
        self.summing = trainer.global_step == self.before
        ends = trainer.is_last_batch or trainer.global_step == trainer.max_steps
        self.due = bool(self.every) and not self.summing and not ends and trainer.global_step % (self.every or 1) == 0

    def on_validation_start(self, trainer: L.Trainer, *_: object) -> None:
        """End the restart, so that the epoch continues like an uninterrupted epoch."""
        end_restart(trainer)

    def on_validation_end(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Store the results of the validation, which are valid until the next step."""
        self.results, self.undefined = evaluated(pl_module, "val"), undefined_of(pl_module)
        self.undefined = {name: why for name, why in self.undefined.items() if name in self.results}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Mark the epoch's checkpoint as due; a plain module logs values of the epoch after this, in its own hook."""
        self.due = True
        if not is_plain(pl_module):
            self._determine_best(trainer)

    def _end_plain_epoch(self, trainer: L.Trainer) -> None:
        """Determine whether the ended epoch of a plain module is the best. Raise `SettingError` if the monitored metric is not logged."""
        if self.due and is_plain(trainer.lightning_module):
            self._require_measured(trainer.callback_metrics)
            self._determine_best(trainer)

    def _determine_best(self, trainer: L.Trainer) -> None:
        if self.monitor is not None and self.monitor in trainer.callback_metrics:
            value = self.sign * float(trainer.callback_metrics[self.monitor])
            self.is_best = value < self.best_value  # NaN is never the best, and does not replace the best
            self.best_value = value if self.is_best else self.best_value

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save a checkpoint of the last epoch. A plain module, or its callback, may set its final weights in hooks that follow."""
        self._end_plain_epoch(trainer)
        if self.is_best or not is_plain(pl_module):
            self.save_if_due(trainer, NextStage.END)

    def teardown(self, trainer: L.Trainer, _net: object, stage: str) -> None:
        """Save a checkpoint of a plain module after its own hooks, unless the last epoch is the best: the best was measured before."""
        if stage == TrainerFn.FITTING:
            self.save_if_due(trainer, NextStage.END)

    def on_load_checkpoint(self, _trainer: object, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the added values. Raise `DigestMismatchError` or `DocumentError` if the best checkpoint cannot be served."""
        best = self.last.best if self.last else None
        if self.last is not None and best is not None and best.path != self.last.path:
            require_servable(read_saved(self.folder, best), pl_module, run=self.run)
        self.restored = checkpoint["reprise"]
        self.results = self.restored["results"]
        self.undefined = self.restored.get("undefined", {})
        self.best_value = self.restored["best_value"]

    def save_if_due(self, trainer: L.Trainer, stage: NextStage, *, batch: int = 0) -> None:
        """Save if an earlier hook marked a checkpoint as due."""
        if self.due:
            self.save(trainer, stage, batch=batch)

    def save(self, trainer: L.Trainer, stage: NextStage, *, batch: int = 0) -> None:
        """Save a checkpoint and update `latest.json`; at most once per step, and once more after the step's validation.

        Within an epoch, save nothing if the run cannot resume there.
        """
        self.due = False
        before = stage is NextStage.VALIDATION
        if batch and stage is NextStage.BATCH and not self.saves_within_epoch():
            return
        if self.saved in {(trainer.global_step, before), (trainer.global_step, False)}:
            return
        self.saved = (trainer.global_step, before)
        if stage in {NextStage.EPOCH, NextStage.END} and is_plain(trainer.lightning_module):
            self.results = dict(results_of(trainer.lightning_module))
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
        if is_plain(trainer.lightning_module):
            self.adding["modes"] = modes_of(trainer)
        try:
            trainer.save_checkpoint(path)
        finally:
            self.adding = {}
        if trainer.is_global_zero:
            self._point_at(path, stage=stage, batch=batch, logs=logs, epoch=trainer.current_epoch)

    def on_save_checkpoint(self, _trainer: object, _net: object, checkpoint: dict[str, Any]) -> None:
        """Add the values of this class, and set Lightning's counters; ignore a checkpoint of an experiment's own callback."""
        if not self.adding:
            return
        checkpoint["reprise"] = self.adding
        for name in _NOT_NEEDED:
            checkpoint.pop(name, None)
        settle(checkpoint["loops"], **{name: self.adding[name] for name in ("stage", "epoch", "batch")})

    def _point_at(self, path: Path, *, stage: NextStage, batch: int, logs: dict[str, int], epoch: int) -> None:
        mine = Checkpoint(path=path.name, sha256=digest_of_file(path), step=self.saved[0])
        best = mine if self.is_best else (self.last and self.last.best)
        saved = Saved(**mine.model_dump(), epoch=epoch, batch=batch, stage=stage, logs=logs, best=best)
        before, self.last, self.is_best = self.last, saved, False
        if before is not None:
            write_whole(self.folder / PREVIOUS, before.to_json())
        write_whole(self.folder / LATEST, saved.to_json())
        if best is not None:
            write_whole(self.folder / BEST, best.model_dump_json().encode() + b"\n")
        self._tidy([saved, before] if before else [saved])
        self.on_saved(saved)

    def _tidy(self, kept: list[Saved]) -> None:
        named = {one.path for one in kept} | {one.best.path for one in kept if one.best}
        with folder_of(self.folder / LATEST) as folder:
            for old in folder.names():
                if old.startswith("step-") and "." in old and old not in named:
                    folder.unlink(old, missing_ok=True)


def served(folder: Path) -> Checkpoint:
    """Return the checkpoint with the run's result: the best if a metric is monitored, otherwise the last."""
    with folder_of(folder / LATEST) as attempt_folder:
        if attempt_folder.stat(BEST) is not None:
            return read_json_below(attempt_folder, BEST, Checkpoint)
        return read_json_below(attempt_folder, LATEST, Saved)


def epoch_of(place: Mapping[str, Any]) -> int:
    """Return the epoch of a checkpoint, counted from 1; at an epoch's end, the epoch that ended."""
    between = place["stage"] in {NextStage.EPOCH, NextStage.END} or (
        place["stage"] is NextStage.BATCH and place["batch"] == 0
    )
    return int(place["epoch"]) + (not between)


def read_saved(folder: Path, saved: Checkpoint) -> dict[str, Any]:
    """Read a checkpoint of this run, from the mapped file: its bytes take memory only while they are used.

    Raise `DigestMismatchError` if its bytes have changed, and `DocumentError` if it is not valid.
    """
    with folder_of(folder / LATEST) as attempt_folder, attempt_folder.open(saved.path) as file:
        found = digest_of_open(file)
        if found != saved.sha256:
            raise DigestMismatchError(
                f"checkpoint {saved.path}: expected {saved.sha256}, found {found}", hint="train again"
            )
        return read_open_checkpoint(file, folder / saved.path, is_mapped=True)
