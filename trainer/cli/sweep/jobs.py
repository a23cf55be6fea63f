"""The jobs of a sweep's points on a cluster, and the states of points that follow from the states of their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.errors import RepriseError, RunError
from trainer.base.suggestions import counted, listed
from trainer.cli.configuration import runs_folder
from trainer.cli.output import print_notice
from trainer.sites import scheduler
from trainer.sites.submission import Submission, read_submission
from trainer.sweeps.document import FOLDER, Sweep
from trainer.sweeps.folder import PointState, is_written, load, point_states, resolve_sweep, sweep_ids

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trainer.sites.scheduler import JobState


def load_sweep(word: str) -> Sweep:
    """Return the sweep that the user names.

    Raise `RunNotFoundError` for an unknown name, `UsageError` for the start of several IDs, `DocumentError` for an invalid document.
    """
    return load(runs_folder() / FOLDER / resolve_sweep(word, sweep_ids(runs_folder())))


def submissions(sweep: Sweep, numbers: Collection[int]) -> dict[int, Submission]:
    """Return the submission notes of the points `numbers`, counted from 0, without points that were not submitted to a cluster.

    Raise `DocumentError` if a note is invalid.
    """
    runs = {number: sweep.points[number].run for number in numbers}
    notes = {number: read_submission(runs_folder() / run) for number, run in runs.items() if run is not None}
    return {number: note for number, note in notes.items() if note is not None and note.sweep == sweep.id}


def jobs_of(notes: dict[int, Submission]) -> dict[int, JobState]:
    """Return the states of the jobs that wait or run, by point. Raise `SchedulerError` if the scheduler does not respond."""
    tasks = {job: scheduler.states_of_tasks(job) for job in sorted({note.array for note in notes.values()})}
    found = {number: tasks[note.array].get(note.task) for number, note in notes.items()}
    return {number: state for number, state in found.items() if state is not None and not state.has_ended}


def current_states(sweep: Sweep) -> list[PointState]:
    """Return the states of all points; whether a submitted point waits, runs or has ended is the scheduler's state, not the record's."""
    states = point_states(sweep, runs=runs_folder())
    unfinished = [number for number, state in enumerate(states) if state is not PointState.FINISHED]
    try:
        notes = submissions(sweep, unfinished)
        jobs = jobs_of(notes)
    except RepriseError as fault:
        print_notice(f"the states of the points' jobs are unknown: {fault.message}")
        return states
    for number in notes:
        if not runs_here(sweep, number):
            states[number] = _state(states[number], jobs.get(number))
    return states


def runs_here(sweep: Sweep, number: int) -> bool:
    """Return whether a process on this machine trains a point, counted from 0: it locks the point's log, and a cluster's job does not."""
    return is_written(runs_folder() / FOLDER / sweep.id, number)


def _state(recorded: PointState, job: JobState | None) -> PointState:
    if job is not None:
        return PointState.WAITING if job.waits else PointState.RUNNING
    ended = {PointState.WAITING: PointState.FAILED, PointState.RUNNING: PointState.STOPPED}
    return ended.get(recorded, recorded)  # without a record the job failed; with an open record it was killed


def require_no_job(sweep: Sweep, states: Sequence[PointState]) -> None:
    """Raise `RunError` if unfinished points wait or run on a cluster, `SchedulerError` if the scheduler does not respond."""
    notes = submissions(sweep, [number for number, state in enumerate(states) if state is not PointState.FINISHED])
    jobs = jobs_of(notes)
    if not jobs:
        return
    names = listed(sorted({f"{notes[number].array} of site {notes[number].site}" for number in jobs}))
    first = sweep.points[min(jobs)].run
    message = f"job {names} still has {counted(len(jobs), 'point')} of sweep {sweep.id}"
    hint = f"`reprise sweep --show {sweep.id}` lists the points, `reprise cancel {first}` stops one point; scancel stops the job"
    raise RunError(message, hint=hint)
