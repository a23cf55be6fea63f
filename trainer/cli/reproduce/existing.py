"""`reprise reproduce RUN --resume-or-begin NEW`: begins the rerun with a given ID, resumes it after a stop, or finds it completed.

A scheduler starts a job again with the same command.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import RepriseError, RunError, UsageError
from trainer.base.safe_folder import Root, run_root
from trainer.cli.configuration import runs_folder
from trainer.cli.output import print_progress
from trainer.runs.checkpoint_pointer import FOLDER as CHECKPOINTS
from trainer.runs.checkpoint_pointer import LATEST
from trainer.runs.record import RunStatus
from trainer.runs.register import register_attempt
from trainer.runs.resume import archive_observed_image, close_lost
from trainer.runs.run import ATTEMPTS, record_of, recorded_attempts
from trainer.runs.run_id import is_run_id, new_run_id

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.record import Knowledge, Record

OPTION: Final = "resume-or-begin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingRerun:
    """The folder and the state of a rerun whose ID the user chose."""

    folder: Path
    is_begun: bool = False
    """Whether the rerun has started but is not complete, so that it is resumed."""
    image: Knowledge | None = None
    """How well the image of a completed rerun is known; `None` for a rerun that is not completed."""


def rerun_folder(word: str) -> Path:
    """Return the folder of the rerun with this ID. Raise `UsageError` if the word is not a run ID."""
    if not is_run_id(word):
        message = f"--{OPTION} is {word!r}; expected the ID of a new or an existing rerun"
        raise UsageError(message, hint=f"--{OPTION} {new_run_id()}")
    return runs_folder() / word


def existing_rerun(folder: Path, original: Record, *, own: bool) -> ExistingRerun:
    """Return the state of a rerun, whose folder is created if it does not exist. Close attempts whose processes were killed.

    Raise `RunError` if the run is not a rerun of `original`.
    """
    if not recorded_attempts(folder):
        with disk_faults(folder), Root.at(folder.parent, make=True) as runs:
            runs.below(folder.name, make=True).close()
        return ExistingRerun(folder=folder)
    record = record_of(folder)
    if record.circumstances.retest_of != original.run:
        message = f"run {folder.name} is not a rerun of run {original.run}"
        raise RunError(message, hint=f"for a new rerun use another ID: --{OPTION} {new_run_id()}")
    if own:
        register_attempts(folder)  # of processes that were killed before they could be registered
    if record.outcome.status is RunStatus.COMPLETED:
        return ExistingRerun(folder=folder, image=record.circumstances.image.known)
    for lost in close_lost(folder):
        print_progress(f"  lost      attempt {lost.attempt} of the rerun ended without closing its record")
    archive_observed_image(folder)
    return ExistingRerun(folder=folder, is_begun=True)


def is_resumable(folder: Path) -> bool:
    """Return whether the rerun has a checkpoint or is completed, so that the same command continues it."""
    recorded = recorded_attempts(folder)
    if not recorded:
        return False
    with run_root(folder) as run:
        has_checkpoint = any(run.stat(f"{ATTEMPTS}/{number}/{CHECKPOINTS}/{LATEST}") for number in recorded)
    with suppress(RepriseError):
        return has_checkpoint or record_of(folder).outcome.status is RunStatus.COMPLETED
    return has_checkpoint


def register_attempts(folder: Path) -> None:
    """Register the attempts of a rerun of the user's own code; print an error instead of raising it."""
    for number in recorded_attempts(folder):
        try:
            register_attempt(folder / ATTEMPTS / str(number))
        except (RepriseError, OSError) as fault:
            print_progress(f"  not registered as your own: {fault}")
