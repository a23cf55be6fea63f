"""The note of a submitted run, `runs/<id>/submission/submission.json`: where it was submitted, and its job.

The run of a sweep's point is a task of an array job, such as `42_3` for point 3.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from trainer.base.atomic_file import disk_faults
from trainer.base.document import Document, OneLine, read_json_below
from trainer.base.plain_text import reading
from trainer.base.safe_folder import Root, run_root
from trainer.runs.run import SUBMISSION
from trainer.runs.run_id import RUN_ID, is_run_id

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "submission.json"
_LARGEST: Final = 1 << 16


class Submission(Document):
    """The site and the job of a submitted run."""

    format: Literal["reprise.submission/1"] = "reprise.submission/1"
    kind: Literal["slurm"]
    site: OneLine
    job: str = Field(pattern=r"^[0-9]{1,18}(?:_[0-9]{1,9})?$")
    """The job's number; for a task of an array job, followed by `_` and the task's number."""
    submitted: datetime
    sweep: str | None = Field(default=None, pattern=rf"^{RUN_ID.pattern}$", exclude_if=lambda sweep: sweep is None)
    """The sweep whose point the run is; the output of the job is in the sweep's folder."""

    @property
    def array(self) -> str:
        """The number of the whole job."""
        return self.job.partition("_")[0]

    @property
    def task(self) -> str:
        """The task's number in an array job; an empty string for another job."""
        return self.job.partition("_")[2]


def write_submission(folder: Path, submission: Submission) -> None:
    """Write the note into a run's folder. Raise `MachineError` if this fails."""
    with disk_faults(folder), run_root(folder) as run:
        run.write_whole(f"{SUBMISSION}/{FILE}", f"{submission.model_dump_json(indent=1)}\n".encode())
        run.give(f"{SUBMISSION}/{FILE}")  # if this user is root, the containers' user becomes the owner


def read_submission(folder: Path) -> Submission | None:
    """Read the note; return `None` if the run was not submitted. Raise `DocumentError` if the note is invalid."""
    path = f"{SUBMISSION}/{FILE}"
    with reading(folder / path), suppress(FileNotFoundError, NotADirectoryError), run_root(folder) as run:
        return read_json_below(run, path, Submission, most=_LARGEST) if run.has_file(path) else None
    return None


def submitted_ids(runs: Path) -> list[str]:
    """Return the sorted IDs of the submitted runs on this machine, including runs without an attempt."""
    if not runs.is_dir():
        return []
    with Root.at(runs) as folder:
        return [name for name in folder.names() if is_run_id(name) and _was_submitted(folder, name)]


def _was_submitted(runs: Root, name: str) -> bool:
    with suppress(OSError):
        return runs.has_folder(name) and runs.stat(f"{name}/{SUBMISSION}/{FILE}") is not None
    return False
