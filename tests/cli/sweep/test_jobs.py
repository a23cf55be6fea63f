"""The states of a sweep's points that were submitted to a cluster, with a shell script in place of `squeue`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.records import circumstances, ingredients
from tests.sites.plans import programs
from trainer.base.errors import RunError, SchedulerError
from trainer.cli.sweep.jobs import current_states, require_no_job
from trainer.runs.open_run import open_run
from trainer.runs.run_id import new_run_id
from trainer.sites.submission import Submission, write_submission
from trainer.source.capture import capture
from trainer.sweeps.document import Point, Sweep, SweepRequest
from trainer.sweeps.folder import PointState, create_sweep_folder, log_of, point_states

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.host


@pytest.fixture
def sweep(runs: Path, tmp_path: Path) -> Sweep:
    """Return a sweep of three points, which are the tasks of job 42; the run of point 3 is open."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "code.py").write_text("x = 1\n")
    bundle = capture(tmp_path / "project")
    points = [Point(settings={"seed": seed}, runs=[new_run_id()]) for seed in ("1", "2", "3")]
    made = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", axes=["seed"], points=[point.settings for point in points]),
        source=bundle.digest,
        captured=bundle.source,
        points=points,
    )
    create_sweep_folder(made, bundle, runs=runs)
    for number, point in enumerate(points, 1):
        folder = runs / str(point.run)
        (folder / "submission").mkdir(parents=True)
        note = Submission(kind="slurm", site="lab", job=f"42_{number}", submitted=datetime.now(UTC), sweep=made.id)
        write_submission(folder, note)
    open_run(runs / str(points[2].run), ingredients=ingredients(), circumstances=circumstances())
    return made


def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", squeue=squeue)["PATH"])


@pytest.mark.parametrize(
    ("squeue", "states"),
    [
        ("echo '42_1|PENDING||'; echo '42_2|RUNNING||n1'; echo '42_3|COMPLETING||n1'", "waiting running running"),
        ("echo '42_1|FAILED||'; echo '42_2|REQUEUED||'", "failed waiting stopped"),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "failed failed stopped"),
    ],
)
def test_the_scheduler_says_which_points_wait_and_run(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, states: str
) -> None:
    answer(tmp_path, monkeypatch, squeue)
    assert " ".join(current_states(sweep)) == states


def test_a_point_that_a_process_of_this_machine_trains_is_running(
    sweep: Sweep, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(tmp_path, monkeypatch, "exit 0")
    with log_of(runs / "sweeps" / sweep.id, 0):
        assert current_states(sweep)[0] is PointState.RUNNING


def test_points_of_a_job_are_not_trained_here(
    sweep: Sweep, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = point_states(sweep, runs=runs)
    answer(tmp_path, monkeypatch, "echo '42_2|PENDING||'")
    with pytest.raises(RunError, match=f"job 42 of site lab still has 1 point of sweep {sweep.id}"):
        require_no_job(sweep, states)
    answer(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(SchedulerError):
        require_no_job(sweep, states)
    answer(tmp_path, monkeypatch, "echo '42_2|FAILED||'")
    require_no_job(sweep, states)
