"""Making ready to go on with a run: what is refused before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.actions.runs import finished
from trainer.cli.resume import again, set_aside_environment
from trainer.errors import ResumeError
from trainer.origins import take_apart
from trainer.record import Status

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_whose_own_source_is_older_than_resume_is_refused_by_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own source is what would run, and knows nothing of going on."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    run = finished(tmp_path / "runs", status=Status.PREEMPTED).record.run
    with pytest.raises(ResumeError, match="older than --resume"):
        again(take_apart(["--resume", run]))


def test_the_environment_does_not_change_a_run_that_goes_on(tmp_path: Path) -> None:
    """What is otherwise is told with what to type; what the record does not hold is left, a secret for one."""
    record = finished(tmp_path / "runs", status=Status.PREEMPTED).record
    environ = {
        "PATH": "/bin",
        "REPRISE_SETTING_SEED": "0",
        "REPRISE_SETTING_LEARNING_RATE": "0.5",
        "REPRISE_SETTING_TOKEN": "hidden",
    }
    (line,) = set_aside_environment(record, environ)
    assert line.startswith(f"REPRISE_SETTING_LEARNING_RATE=0.5 is not used: run {record.run} goes on with 0.001")
    assert line.endswith("--learning-rate 0.5 --allow settings")
    assert environ == {"PATH": "/bin", "REPRISE_SETTING_TOKEN": "hidden"}
