"""The place in a run at which a checkpoint is made, said so that Lightning goes on from exactly there.

Knows what Lightning 2.6 keeps of its loops and how it reads that again; tests/training/test_resume.py holds every case to the bits of an
uninterrupted run. Refuses to know what made the checkpoint necessary.

Lightning's own counts are those of the middle of a hook: the batch that is to come is counted as begun, the last as not yet finished. Here
they are set to what is true between two batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.runs.checkpoint_pointer import NextStage

if TYPE_CHECKING:
    import lightning as L

_COUNTS = ("ready", "started", "processed", "completed")


def settle(loops: dict[str, Any], *, stage: NextStage, epoch: int, batch: int) -> None:
    """Set the loops of a checkpoint to a place: `batch` batches of `epoch` are over, and `stage` comes next."""
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
    if stage is NextStage.VALIDATION:  # Lightning goes back to a validation of which one batch was begun
        validation["total"] |= {"ready": 1, "started": 1}
    if stage is NextStage.EPOCH:  # where it restarts an epoch it counts one step for its logs before the first
        fit["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def keep_sums(machine: L.Trainer) -> None:
    """Have the first batch after a restart go on with the epoch's averages, which Lightning would begin anew."""
    connector = machine._logger_connector  # noqa: SLF001 - there is no public way
    connector._first_loop_iter = True  # noqa: SLF001
    connector._current_fx = "training_step"  # noqa: SLF001


def end_restart(machine: L.Trainer) -> None:
    """Have the end of an epoch that was restarted be as any: Lightning would leave out the schedules that step at epochs."""
    machine.fit_loop._restarting = False  # noqa: SLF001 - the property would set the loops within too


def _count(progress: dict[str, Any], *, ready: int, started: int, rest: int) -> None:
    for counts in (progress["total"], progress["current"]):
        counts |= {"ready": ready, "started": started, "processed": rest, "completed": rest}


def _set(counts: dict[str, int], value: int) -> None:
    counts |= {name: value for name in _COUNTS if name in counts}
