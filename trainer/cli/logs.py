"""`reprise logs RUN`: prints the output of a submitted run's job, or the log of a run's last attempt."""

from __future__ import annotations

import codecs
import os
import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING, BinaryIO, Final

from trainer.base.errors import RunError, RunNotFoundError, SchedulerError
from trainer.base.run_files import open_run_file
from trainer.base.safe_folder import run_root
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import runs_folder
from trainer.cli.output import print_notice
from trainer.cli.submitted import find_submitted
from trainer.runs.list import local_ids
from trainer.runs.names import resolve_run
from trainer.runs.run import ATTEMPTS, SUBMISSION, attempts
from trainer.sites import scheduler
from trainer.sites.slurm import LOG
from trainer.sites.submission import submitted_ids
from trainer.sweeps.document import FOLDER as SWEEPS
from trainer.sweeps.folder import LOGS, sweep_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BLOCK: Final = 1 << 16
_PAUSE: Final = 0.5
"""Seconds between two reads of the file."""
_QUERY_INTERVAL: Final = 10.0
"""Minimum seconds between two queries of the scheduler."""
_ATTEMPT_LOG: Final = "log.txt"


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = Arguments(
        "reprise logs",
        "Print the output of a run's Slurm job, including all restarts; for any other run, print the log of the last attempt.",
    )
    parser.add_argument("run", metavar="RUN", help="run: ID, start of an ID, or `latest`")
    parser.add_argument("-f", "--follow", action="store_true", help="print new lines until the Slurm job ends")
    args = parser.parse_args(argv)
    submitted = submitted_ids(runs_folder())
    run = resolve_run(args.run, {*submitted, *local_ids(runs_folder())})
    if run not in submitted:
        if args.follow:
            raise RunNotFoundError(
                f"run {run} was not submitted to a cluster", hint=f"reprise logs {run}, without --follow"
            )
        return _print(_log_of_attempt(runs_folder() / run), has_ended=lambda: True)
    folder, note = find_submitted(run)
    path = folder / SUBMISSION / LOG
    if note.sweep is not None:
        path = runs_folder() / SWEEPS / note.sweep / LOGS / f"{note.task}.txt"
    return _print(path, has_ended=_end_of(note.job) if args.follow else lambda: True)


def _log_of_attempt(folder: Path) -> Path:
    numbers = attempts(folder)
    if not numbers:
        raise RunError(f"run {folder.name} has no attempt yet", hint=f"reprise runs show {folder.name}")
    return folder / ATTEMPTS / str(numbers[-1]) / _ATTEMPT_LOG


def _end_of(job: str) -> Callable[[], bool]:
    """Return a function that reports whether a job has ended, and queries the scheduler at most every `_QUERY_INTERVAL` seconds."""
    last, ended = -_QUERY_INTERVAL, False

    def has_ended() -> bool:
        nonlocal last, ended
        if not ended and monotonic() - last >= _QUERY_INTERVAL:
            last = monotonic()
            try:
                state = scheduler.state_of(job)
            except SchedulerError as fault:
                print_notice(f"{fault.message}; still following")
                return False
            ended = state is None or state.has_ended
        return ended

    return has_ended


def _print(path: Path, *, has_ended: Callable[[], bool]) -> int:
    """Print a file, and the text that is appended to it until the job has ended; return 0."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for block in _blocks(path, has_ended=has_ended):
        sys.stdout.write(decoder.decode(block))
        sys.stdout.flush()
    return 0


def _blocks(path: Path, *, has_ended: Callable[[], bool]) -> Iterator[bytes]:
    file: BinaryIO | None = None
    try:
        while True:
            is_last = has_ended()  # before the file is read, so that all output until the end is printed
            file = file or _opened(path)
            while file is not None and (block := file.read(_BLOCK)):
                yield block
            if is_last:
                break
            sleep(_PAUSE)
    finally:
        if file is not None:
            file.close()
    if file is None:
        print_notice(f"there is no output yet: {path} does not exist")


def _opened(path: Path) -> BinaryIO | None:
    """Open a log of a run or a sweep and return the file; `None` if it does not exist yet."""
    try:
        if path.parent.name == SUBMISSION:
            with run_root(path.parents[1]) as run:
                return os.fdopen(run.handle(f"{SUBMISSION}/{path.name}", os.O_RDONLY), "rb", buffering=0)
        if path.parent.name == LOGS:
            with sweep_root(path.parents[1]) as sweep:
                return os.fdopen(sweep.handle(f"{LOGS}/{path.name}", os.O_RDONLY), "rb", buffering=0)
        return open_run_file(path)
    except FileNotFoundError:
        return None
