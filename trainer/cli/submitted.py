"""Runs that were submitted to a cluster: found by name, with the state of their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.errors import RepriseError, RunNotFoundError
from trainer.cli.configuration import runs_folder
from trainer.runs.names import resolve_run
from trainer.sites import scheduler
from trainer.sites.submission import Submission, read_submission, submitted_ids

if TYPE_CHECKING:
    from pathlib import Path


def find_submitted(word: str) -> tuple[Path, Submission]:
    """Return the folder and the note of the submitted run that `word` names.

    Raise `RunNotFoundError` if no submitted run matches, `UsageError` if several match.
    """
    folder = runs_folder() / resolve_run(word, submitted_ids(runs_folder()))
    note = read_submission(folder)
    if note is None:
        raise RunNotFoundError(
            f"run {folder.name} was not submitted to a cluster", hint="reprise submit EXPERIMENT --to SITE"
        )
    return folder, note


def describe_job(folder: Path) -> str | None:
    """Describe the job of a submitted run and its state, or why the state is not known; `None` for a run that was not submitted."""
    try:
        note = read_submission(folder)
    except RepriseError as fault:
        return f"unknown: {fault.message}"
    if note is None:
        return None
    about = f"job {note.job} of site {note.site}"
    try:
        found = scheduler.state_of(note.job)
    except RepriseError as fault:
        return f"{about}: its state is not known: {fault.message}"
    return f"{about}: {found.described if found else 'ended, and no longer known to Slurm'}"
