"""`reprise cancel RUN`: stops the job of a submitted run, by default after the run has saved a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import RunError
from trainer.base.safe_folder import run_root
from trainer.cli.arguments import Arguments
from trainer.cli.messages import spelled
from trainer.cli.submitted import find_submitted
from trainer.runs.run import SUBMISSION
from trainer.sites import scheduler
from trainer.sites.slurm import CANCELLED, JOB

if TYPE_CHECKING:
    from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = Arguments(
        "reprise cancel",
        "Stop the Slurm job of a submitted run. A running job saves a checkpoint first and is not requeued.",
    )
    parser.add_argument("run", metavar="RUN", help="submitted run: ID, start of an ID, or `latest`")
    parser.add_argument(
        "--now",
        action="store_true",
        help="end the job at once, as `scancel` does: the run has only the cluster's KillWait time to stop",
    )
    args = parser.parse_args(argv)
    folder, note = find_submitted(args.run)
    state = scheduler.state_of(note.job)
    if state is None or state.has_ended:
        about = f"is {state.described}" if state else "has ended"
        raise RunError(f"job {note.job} of run {folder.name} {about}", hint=f"reprise runs show {folder.name}")
    _mark(folder, note.job)
    if args.now or state.waits:
        scheduler.end(note.job)
        print(f"job {note.job} of run {folder.name} is cancelled")
    else:
        scheduler.stop(note.job)
        print(
            f"job {note.job} of run {folder.name} saves a checkpoint and stops: {spelled(f'reprise logs {folder.name} --follow')}"
        )
    if note.sweep is None:
        print(f"to continue the run later, type in {folder / SUBMISSION}: sbatch {JOB}")
    else:
        print(spelled(f"to continue the point later: reprise sweep --continue {note.sweep} --to {note.site}"))
    return 0


def _mark(folder: Path, job: str) -> None:
    """Write the marker file that keeps the job from being requeued."""
    with disk_faults(folder), run_root(folder) as run:
        run.write_whole(f"{SUBMISSION}/{CANCELLED}{job}", b"")
