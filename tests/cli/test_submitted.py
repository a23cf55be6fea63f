"""Runs that were submitted to Slurm: shown, followed and cancelled, with shell scripts in place of Slurm's programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.runs.runs import finish_run
from tests.sites.plans import RUN, programs
from trainer.cli import main
from trainer.runs.run import abandon
from trainer.sites.submission import Submission, write_submission

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Install = Callable[..., None]

pytestmark = pytest.mark.host


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that puts programs on the PATH; `scancel` appends its arguments to the file `asked`."""

    def put(squeue: str) -> None:
        texts = {"squeue": squeue, "scancel": f'echo "$@" >>{tmp_path}/asked'}
        monkeypatch.setenv("PATH", programs(tmp_path / "bin", **texts)["PATH"])

    return put


def submit(folder: Path) -> Path:
    """Write the note of a submitted run, job 42, into its folder; return the folder of the job."""
    submission = folder / "submission"
    submission.mkdir(parents=True)
    write_submission(folder, Submission(kind="slurm", site="lab", job="42", submitted=datetime.now(UTC)))
    return submission


def test_a_waiting_run_is_shown_and_cancelled(
    runs: Path, install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(runs / RUN)
    install("echo 'PENDING|Resources|'")
    for folder in (RUN, f"{RUN}/attempts/1"):  # an attempt that failed before its first step has no record
        (runs / folder).mkdir(parents=True, exist_ok=True)
        assert main(["runs", "show", RUN]) == 0
        shown = capsys.readouterr().out
        assert f"run        {RUN}, which has no record yet" in shown
        assert "scheduler  job 42 of site lab: PENDING (Resources)" in shown
    assert main(["cancel", "latest"]) == 0
    assert f"job 42 of run {RUN} is cancelled" in capsys.readouterr().out
    assert (tmp_path / "asked").read_text() == "42\n"


def test_a_running_run_is_told_to_save_and_is_not_requeued(runs: Path, install: Install, tmp_path: Path) -> None:
    submission = submit(runs / RUN)
    install("echo 'RUNNING|None|n1'")
    assert main(["cancel", RUN]) == 0
    assert (submission / "cancelled-42").exists()
    assert main(["cancel", RUN, "--now"]) == 0
    assert (tmp_path / "asked").read_text() == "--signal=TERM 42\n42\n"


def test_a_job_that_has_ended_cannot_be_cancelled(
    runs: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = submit(runs / RUN)
    install("echo 'COMPLETED|None|n1'")
    assert main(["cancel", RUN]) == 80
    assert f"job 42 of run {RUN} is COMPLETED on n1" in capsys.readouterr().err
    assert not (submission / "cancelled-42").exists()


def test_a_run_that_was_not_submitted_has_no_job(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs).record.run
    assert [main(["cancel", run]), main(["logs", run, "--follow"])] == [45, 45]
    assert "was not submitted to a cluster" in capsys.readouterr().err


def test_the_output_of_a_job_is_printed_up_to_its_end(
    runs: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    log = submit(runs / RUN) / "log.txt"
    assert main(["logs", RUN]) == 0
    assert "there is no output yet" in capsys.readouterr().err
    log.write_text("epoch 1\n")
    install(f"echo 'epoch 2' >>{log}; echo 'COMPLETED|None|'")
    assert main(["logs", RUN, "--follow"]) == 0
    assert capsys.readouterr().out == "epoch 1\nepoch 2\n"


def test_the_log_of_another_run_is_that_of_its_last_attempt(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = finish_run(runs)
    (runs / finished.record.run / "attempts" / "1" / "log.txt").write_text("epoch 1\n")
    assert main(["logs", "latest"]) == 0
    assert capsys.readouterr().out == "epoch 1\n"


def test_the_record_and_the_scheduler_are_shown_side_by_side(
    runs: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish_run(runs).record.run
    submit(runs / run)
    install("echo 'RUNNING|None|n1'")
    assert main(["runs", "show", run]) == 0
    shown = capsys.readouterr().out
    assert "status      completed" in shown
    assert "scheduler   job 42 of site lab: RUNNING on n1" in shown
    install("exit 1")
    assert main(["runs", "show", run]) == 0
    assert "its state is not known: squeue failed" in capsys.readouterr().out


def test_a_submitted_run_is_not_abandoned_with_the_output_of_its_job(runs: Path) -> None:
    submission = submit(runs / RUN)
    abandon(runs / RUN)
    assert submission.is_dir()
