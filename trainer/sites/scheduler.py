"""Slurm's programs: submit a job, ask for its state, signal it and end it. Each call has a limit of time."""

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
"""The most seconds that a program of the scheduler may take."""
_LONGEST: Final = 500
"""The most characters of a program's complaint in a message."""
_JOB: Final = re.compile(r"([0-9]{1,18})(?:;.*)?")
_RANGE: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_ENDED: Final = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job, as the scheduler describes it."""

    state: str
    """Such as PENDING, RUNNING or COMPLETED."""
    reason: str = ""
    """Why it waits or has ended, if the scheduler gives a reason."""
    machines: str = ""

    @property
    def waits(self) -> bool:
        """Whether no machine runs it yet, or it waits to be started again."""
        return self.state in {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}

    @property
    def has_ended(self) -> bool:
        """Whether it does not start again."""
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
    """Submit the script of this name in a folder, in which the job then works; return the job's number. Raise `SchedulerError`."""
    words = ("sbatch", "--parsable", script)
    found = _JOB.fullmatch(_run(words, folder=folder).strip())
    if found is None:
        raise SchedulerError("sbatch printed no number of a job", hint="squeue --me shows whether it was submitted")
    return found[1]


def test(text: str, *, folder: Path) -> str:
    """Return what Slurm says about when and where a job would start, without submitting it. Raise `SchedulerError` if it rejects it."""
    return _run(("sbatch", "--test-only"), folder=folder, text=text, complaints=True).strip()


def state_of(job: str) -> JobState | None:
    """Return the state of a job; `None` if Slurm does not know it any more. Raise `SchedulerError`."""
    lines = _known_jobs(("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%r|%N"))
    return _state(lines[0]) if lines else None


def _known_jobs(words: Sequence[str]) -> list[str]:
    """Return the lines of `squeue` about a job; none if Slurm does not know it any more. Raise `SchedulerError`."""
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
    """Return the states of an array job's tasks by number, without tasks that Slurm does not know any more. Raise `SchedulerError`."""
    words = ("squeue", "--noheader", "--states=all", "--array", f"--jobs={job}", "--format=%i|%T|%r|%N")
    found: dict[str, JobState] = {}
    for line in _known_jobs(words):
        name, _, rest = line.partition("|")
        found |= dict.fromkeys(_tasks(name.strip()), _state(rest))
    return found


def _tasks(name: str) -> list[str]:
    """Return the numbers of the tasks that a line of `squeue` describes. Raise `SchedulerError` for a form that is not known.

    >>> _tasks("42_3"), _tasks("42_[1-3,7%2]")
    (['3'], ['1', '2', '3', '7'])
    """
    text = name.partition("_")[2].strip("[]").partition("%")[0]
    ranges = [_RANGE.fullmatch(part) for part in text.split(",")]
    numbers = [range(int(each[1]), int(each[2] or each[1]) + 1) for each in ranges if each]
    if len(numbers) < len(ranges):
        message = f"squeue describes the tasks of a job as {name!r}, which is not understood"
        raise SchedulerError(message, hint="squeue --me --array lists the tasks")
    return [str(number) for each in numbers for number in each]


def stop(job: str) -> None:
    """Send SIGTERM to the tasks of a running job, so that the run is saved. Raise `SchedulerError`."""
    _run(("scancel", "--signal=TERM", job))


def end(job: str) -> None:
    """End a job, or take it out of the queue. Raise `SchedulerError`."""
    _run(("scancel", job))


def _run(words: Sequence[str], *, folder: Path | None = None, text: str = "", complaints: bool = False) -> str:
    """Return the output of a program of Slurm, or with `complaints` what it writes on stderr."""
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
        raise SchedulerError(message, hint="type the command on a login machine of the cluster") from fault
    except subprocess.TimeoutExpired as fault:
        message = f"{program} did not answer within {_SECONDS:.0f} s"
        raise SchedulerError(message, hint="sinfo shows whether the scheduler answers") from fault
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        shown = " / ".join(line.strip() for line in said.splitlines() if line.strip())[-_LONGEST:]
        raise SchedulerError(f"{program} failed: {shown or f'exit code {done.returncode}'}", hint=_HINTS[program])
    return said if complaints else done.stdout.decode(errors="replace")


_HINTS: Final = {
    "sbatch": "correct the site's declaration: docs/how-to/cluster.md lists its keys; sinfo lists partitions",
    "squeue": "sinfo shows whether the scheduler answers",
    "scancel": "squeue --me lists your jobs",
}
