"""The calls of Slurm's programs: submit a job, query its state, signal it and cancel it. Each call has a time limit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.errors import SchedulerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SECONDS: Final = 60.0
"""The time limit of a program of the scheduler, in seconds."""
_LONGEST: Final = 500
"""The maximum number of characters of a program's output in a message."""
_JOB: Final = re.compile(r"([0-9]{1,18})(?:;.*)?")
_RANGE: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_ENDED: Final = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job, as the scheduler describes it."""

    state: str
    """The state, such as PENDING, RUNNING or COMPLETED."""
    reason: str = ""
    """Why the job waits or has ended, if the scheduler reports a reason."""
    machines: str = ""

    @property
    def waits(self) -> bool:
        """Whether the job waits for its start, or to be started again."""
        return self.state in {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended and does not start again."""
        return self.state in _ENDED

    @property
    def described(self) -> str:
        """The state on one line."""
        places = f" on {self.machines}" if self.machines else ""
        return f"{self.state}{places}{f' ({self.reason})' if self.reason else ''}"


def has_slurm() -> bool:
    """Return whether this machine has Slurm's programs."""
    return shutil.which("sbatch") is not None


def submit(script: str, *, folder: Path) -> str:
    """Submit a script in `folder`, which becomes the job's working folder, and return the job's number.

    Raise `SchedulerError` if the job cannot be submitted.
    """
    words = ("sbatch", "--parsable", script)
    found = _JOB.fullmatch(_run(words, folder=folder).strip())
    if found is None:
        raise SchedulerError("sbatch printed no job number", hint="squeue --me shows whether the job was submitted")
    return found[1]


def test(text: str, *, folder: Path) -> str:
    """Return Slurm's estimate of when and where a job would start, without submitting it. Raise `SchedulerError` if it is rejected."""
    return _run(("sbatch", "--test-only"), folder=folder, text=text, is_from_stderr=True).strip()


def state_of(job: str) -> JobState | None:
    """Return the state of a job; `None` if Slurm no longer lists it. Raise `SchedulerError` if squeue fails."""
    lines = _known_jobs(("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%r|%N"))
    return _state(lines[0]) if lines else None


def _known_jobs(words: Sequence[str]) -> list[str]:
    """Return the lines of `squeue` about a job; an empty list if Slurm no longer lists it. Raise `SchedulerError` if squeue fails."""
    try:
        return _run(words).splitlines()
    except SchedulerError as fault:
        if "Invalid job id" in fault.message:
            return []
        raise


def _state(line: str) -> JobState:
    state, reason, machines = [*(part.strip() for part in line.split("|", 2)), "", ""][:3]
    return JobState(state=state, reason="" if reason == "None" else reason, machines=machines)


def states_of_tasks(job: str) -> dict[str, JobState]:
    """Return the states of an array job's tasks by number, without tasks that Slurm no longer lists.

    Raise `SchedulerError` if squeue fails, or if its output is not supported.
    """
    words = ("squeue", "--noheader", "--states=all", "--array", f"--jobs={job}", "--format=%i|%T|%r|%N")
    found: dict[str, JobState] = {}
    for line in _known_jobs(words):
        name, _, rest = line.partition("|")
        found |= dict.fromkeys(_tasks(name.strip()), _state(rest))
    return found


def _tasks(name: str) -> list[str]:
    """Return the numbers of the tasks that a line of `squeue` describes. Raise `SchedulerError` if its form is not supported.

    >>> _tasks("42_3"), _tasks("42_[1-3,7%2]")
    (['3'], ['1', '2', '3', '7'])
    """
    text = name.partition("_")[2].strip("[]").partition("%")[0]
    ranges = [_RANGE.fullmatch(part) for part in text.split(",")]
    numbers = [range(int(each[1]), int(each[2] or each[1]) + 1) for each in ranges if each]
    if len(numbers) < len(ranges):
        message = f"squeue describes the tasks of a job as {name!r}, which is not supported"
        raise SchedulerError(message, hint="squeue --me --array lists the tasks")
    return [str(number) for each in numbers for number in each]


def stop(job: str) -> None:
    """Send SIGTERM to the tasks of a running job, so that the run is saved. Raise `SchedulerError` if scancel fails."""
    _run(("scancel", "--signal=TERM", job))


def end(job: str) -> None:
    """Cancel a running or waiting job. Raise `SchedulerError` if scancel fails."""
    _run(("scancel", job))


def _run(words: Sequence[str], *, folder: Path | None = None, text: str = "", is_from_stderr: bool = False) -> str:
    """Return the stdout of a program of Slurm, or its stderr. Raise `SchedulerError` if it fails or exceeds the time limit."""
    program = words[0]
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            input=text.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as fault:
        message = f"the program {program} of Slurm is not installed on this machine"
        raise SchedulerError(message, hint="run the command on a login machine of the cluster") from fault
    except subprocess.TimeoutExpired as fault:
        message = f"{program} did not respond within {_SECONDS:.0f} s"
        raise SchedulerError(message, hint="sinfo shows whether the scheduler responds") from fault
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        shown = " / ".join(line.strip() for line in said.splitlines() if line.strip())[-_LONGEST:]
        raise SchedulerError(f"{program} failed: {shown or f'exit code {done.returncode}'}", hint=_HINTS[program])
    return said if is_from_stderr else done.stdout.decode(errors="replace")


_HINTS: Final = {
    "sbatch": "correct the site's declaration: docs/how-to/cluster.md lists its keys; sinfo lists partitions",
    "squeue": "sinfo shows whether the scheduler responds",
    "scancel": "squeue --me lists your jobs",
}
