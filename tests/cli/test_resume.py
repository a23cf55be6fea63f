"""Preparing to resume a run: what is rejected before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.records import circumstances
from tests.runs.runs import finish_run, start_run
from trainer.base.errors import ResumeError
from trainer.cli.resume import Admission, notes, prepare, set_aside_environment
from trainer.cli.trust import TrustDecision
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, Record, RunStatus
from trainer.runs.resume import check_ingredients, record_with_current_settings
from trainer.runs.run import record_of
from trainer.settings.origins import parse_options

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_whose_source_predates_resume_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run executes its own source, and this source is too old to resume."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    run = finish_run(tmp_path / "runs", status=RunStatus.PREEMPTED).record.run
    admission = Admission(folder=tmp_path / "runs" / run, word=TrustDecision(command=""))
    with pytest.raises(ResumeError, match="predates --resume"):
        prepare(parse_options(["--resume", run]), admission)


def test_the_environment_does_not_change_a_resumed_run(tmp_path: Path) -> None:
    record = finish_run(tmp_path / "runs", status=RunStatus.PREEMPTED).record
    environ = {
        "PATH": "/bin",
        "REPRISE_SETTING_SEED": "0",
        "REPRISE_SETTING_LEARNING_RATE": "0.5",
        "REPRISE_SETTING_TOKEN": "hidden",
    }
    (line,) = set_aside_environment(record, environ)
    assert line.startswith(f"REPRISE_SETTING_LEARNING_RATE=0.5 is not used: run {record.run} has the value 0.001")
    assert line.endswith("--learning-rate 0.5 --allow settings")
    assert environ == {"PATH": "/bin", "REPRISE_SETTING_TOKEN": "hidden"}


def test_a_failed_last_attempt_is_reported_with_its_reason_and_a_hint(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    assert list(notes(run.record, run.record, typed=())) == []
    record = run.close(Outcome(status=RunStatus.FAILED, reason="idea.py:2: the experiment raised NameError"))
    first, second = notes(record, record, typed=())
    assert first == "attempt 1 failed: idea.py:2: the experiment raised NameError"
    assert "frozen source" in second
    assert "train --exp digits" in second


def run_with_allowed_change(tmp_path: Path) -> tuple[Path, Record, Record]:
    """Make a run whose second attempt has an allowed change; return its folder, its record and the effective record."""
    first = start_run(tmp_path / "runs")
    first.close(Outcome(status=RunStatus.PREEMPTED))
    around = circumstances().model_copy(update={"changed": ["setting learning_rate: 0.001 -> 0.5"]})
    folder = first.folder.parents[1]
    open_run(folder, ingredients=first.record.ingredients, circumstances=around).close(
        Outcome(status=RunStatus.PREEMPTED)
    )
    return folder, record_of(folder), record_with_current_settings(folder)


def test_an_allowed_change_lasts_until_it_is_reverted(tmp_path: Path) -> None:
    _, record, was = run_with_allowed_change(tmp_path)
    assert (record.ingredients.settings["learning_rate"], was.ingredients.settings["learning_rate"]) == (0.001, 0.5)
    (line,) = notes(record, was, typed=())
    assert line == "setting learning_rate is 0.5, as in attempt 2; the run began with 0.001"
    assert list(notes(record, was, typed={"learning_rate"})) == []


def test_an_allowed_change_of_a_setting_that_the_run_began_without_is_reported(tmp_path: Path) -> None:
    _, record, was = run_with_allowed_change(tmp_path)
    settings = {**was.ingredients.settings, "shuffle_window": 64}
    current = was.model_copy(update={"ingredients": was.ingredients.model_copy(update={"settings": settings})})
    lines = [*notes(record, current, typed={"learning_rate"})]
    assert lines == ["setting shuffle_window is 64, as in attempt 2; the run began with null"]


def test_a_repeated_change_needs_no_new_permission_and_another_change_does(tmp_path: Path) -> None:
    _, record, was = run_with_allowed_change(tmp_path)
    same = check_ingredients(record, was.ingredients, record.circumstances, allowed=())
    assert same == ["setting learning_rate: 0.001 -> 0.5"]
    other = was.ingredients.model_copy(update={"settings": {"seed": 0, "learning_rate": 0.7}})
    with pytest.raises(ResumeError, match=r"0\.001 -> 0\.7"):
        check_ingredients(record, other, record.circumstances, allowed=())
