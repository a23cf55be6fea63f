"""The calls of Slurm's programs, with shell scripts in place of the programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sites.plans import programs
from trainer.base.errors import SchedulerError
from trainer.sites import scheduler
from trainer.sites.scheduler import JobState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that puts programs on the PATH."""

    def put(**texts: str) -> None:
        monkeypatch.setenv("PATH", programs(tmp_path / "bin", **texts)["PATH"])

    return put


@pytest.mark.parametrize(("printed", "job"), [("42", "42"), ("42;cluster", "42")])
def test_a_submitted_job_has_a_number(install: Install, tmp_path: Path, printed: str, job: str) -> None:
    install(sbatch=f'[ "$PWD $*" = "{tmp_path} --parsable job.sbatch" ] && echo "{printed}"')
    assert scheduler.submit("job.sbatch", folder=tmp_path) == job


def test_a_rejected_job_is_an_error_with_slurms_words(install: Install, tmp_path: Path) -> None:
    install(sbatch='echo "sbatch: error: invalid partition specified: gup" >&2; exit 1')
    with pytest.raises(
        SchedulerError, match="sbatch failed: sbatch: error: invalid partition specified: gup"
    ) as caught:
        scheduler.submit("job.sbatch", folder=tmp_path)
    assert "docs/how-to/cluster.md" in (caught.value.hint or "")


def test_output_without_a_number_is_an_error(install: Install, tmp_path: Path) -> None:
    install(sbatch="echo submitted")
    with pytest.raises(SchedulerError, match="printed no job number"):
        scheduler.submit("job.sbatch", folder=tmp_path)


def test_a_machine_without_slurm_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not scheduler.has_slurm()
    with pytest.raises(SchedulerError, match="squeue of Slurm is not installed"):
        scheduler.state_of("42")


@pytest.mark.parametrize(
    ("line", "described", "waits", "ended"),
    [
        ("RUNNING|None|n[1-2]", "RUNNING on n[1-2]", False, False),
        ("PENDING|Resources|", "PENDING (Resources)", True, False),
        ("REQUEUED|None|n1", "REQUEUED on n1", True, False),
        ("COMPLETING|None|n1", "COMPLETING on n1", False, False),
        ("FAILED|NonZeroExitCode|n1", "FAILED on n1 (NonZeroExitCode)", False, True),
    ],
)
def test_the_state_of_a_job_is_described(
    install: Install, line: str, described: str, *, waits: bool, ended: bool
) -> None:
    install(squeue=f"echo '{line}'")
    found = scheduler.state_of("42")
    assert found is not None
    assert (found.described, found.waits, found.has_ended) == (described, waits, ended)


def test_a_job_that_slurm_forgot_has_no_state(install: Install) -> None:
    install(squeue='echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    assert scheduler.state_of("42") is None
    install(squeue="exit 0")
    assert scheduler.state_of("42") is None


def test_the_tasks_of_an_array_have_states_of_their_own(install: Install) -> None:
    install(squeue="echo '42_1|RUNNING|None|n1'; echo '42_[3-4,6%2]|PENDING|JobArrayTaskLimit|'")
    found = scheduler.states_of_tasks("42")
    assert {task: state.described for task, state in found.items()} == {
        "1": "RUNNING on n1",
        **dict.fromkeys(("3", "4", "6"), "PENDING (JobArrayTaskLimit)"),
    }
    install(squeue="echo '42_[1-3,...]|PENDING||'")
    with pytest.raises(SchedulerError, match="which is not supported"):
        scheduler.states_of_tasks("42")


def test_stopping_signals_the_tasks_and_ending_cancels_the_job(install: Install, tmp_path: Path) -> None:
    install(scancel=f'echo "$@" >>{tmp_path}/asked')
    scheduler.stop("42")
    scheduler.end("42")
    assert (tmp_path / "asked").read_text() == "--signal=TERM 42\n42\n"


def test_a_dry_run_returns_what_slurm_says(install: Install, tmp_path: Path) -> None:
    install(sbatch='[ "$1" = --test-only ] && cat >/dev/null && echo "sbatch: Job 1 to start at noon" >&2')
    assert scheduler.test("#!/bin/bash\n", folder=tmp_path) == "sbatch: Job 1 to start at noon"


def test_a_state_without_a_place_is_short() -> None:
    assert JobState(state="PENDING").described == "PENDING"
