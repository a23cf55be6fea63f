"""The position of a checkpoint in a run, written so that Lightning resumes exactly there.

Lightning 2.6 saves counters from the middle of a hook: they count the next batch as started and the previous batch as unfinished. This
module sets them to the values between two batches. tests/training/test_resume.py compares every case with an uninterrupted run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.runs.checkpoint_pointer import NextStage

if TYPE_CHECKING:
    import lightning as L

_COUNTS = ("ready", "started", "processed", "completed")


def settle(loops: dict[str, Any], *, stage: NextStage, epoch: int, batch: int) -> None:
    """Set the loops of a checkpoint to a position: `batch` batches of `epoch` are done, and `stage` is next."""
    if stage is NextStage.END:
        return
    fit = loops["fit_loop"]
    batches, validation = fit["epoch_loop.batch_progress"], fit["epoch_loop.val_loop.batch_progress"]
    _count(fit["epoch_progress"], ready=epoch + 1, started=epoch + (stage is not NextStage.EPOCH), rest=epoch)
    over = batches["total"]["completed"]
    _set(batches["total"], over)
    _set(batches["current"], batch)
    batches["is_last_batch"] = stage is NextStage.VALIDATION
    _set(validation["total"], 0)
    _set(validation["current"], 0)
    validation["is_last_batch"] = False
    if stage is NextStage.VALIDATION:  # Lightning returns to a validation only if one of its batches was started
        validation["total"] |= {"ready": 1, "started": 1}
    if stage is NextStage.EPOCH:  # when Lightning restarts an epoch it counts one step for its logs before the first
        fit["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def keep_sums(machine: L.Trainer) -> None:
    """Keep the epoch's averages at the first batch after a restart; Lightning would reset them."""
    connector = machine._logger_connector  # noqa: SLF001 - there is no public way
    connector._first_loop_iter = True  # noqa: SLF001
    connector._current_fx = "training_step"  # noqa: SLF001


def end_restart(machine: L.Trainer) -> None:
    """Reset the restart flag: otherwise Lightning skips the epoch-based schedules at the end of a restarted epoch."""
    machine.fit_loop._restarting = False  # noqa: SLF001 - the property would also set the inner loops


def _count(progress: dict[str, Any], *, ready: int, started: int, rest: int) -> None:
    for counts in (progress["total"], progress["current"]):
        counts |= {"ready": ready, "started": started, "processed": rest, "completed": rest}


def _set(counts: dict[str, int], value: int) -> None:
    counts |= {name: value for name in _COUNTS if name in counts}
