"""The run that `latest` names, and the printed line about it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import make_run
from tests.runs.machines import Machine
from tests.runs.runs import finish_run, start_run
from trainer.cli.find_run import find_run, find_run_id
from trainer.cli.runs import main as runs_command
from trainer.runs.list import local_ids
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.register import register_attempt
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path


def newest_id(runs: Path, *, ahead: timedelta = timedelta()) -> str:
    moment = datetime.now(UTC) + ahead + timedelta(minutes=1 + len(local_ids(runs)))
    return f"{moment:%Y%m%dt%H%M%S}-aaaaaa"


def test_a_run_dated_in_the_future_is_skipped(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, future = make_own_run(runs), finish_run(runs).record.run
    rename_run(runs / future, name := newest_id(runs, ahead=timedelta(days=3653)))
    assert find_run_id("latest", local_ids(runs)) == good
    assert f"{name} (date in the future: a clock was wrong)" in capsys.readouterr().err


def rename_run(run: Path, name: str) -> str:
    for path in (run / "attempts/1/record.json", run / "attempts/1/claim.json"):
        path.write_text(path.read_text().replace(run.name, name))
    register_attempt(run.rename(run.with_name(name)) / "attempts/1")
    return name


def make_failed_run(runs: Path, *, steps: int | None) -> str:
    """Make the newest run, which failed after `steps` steps."""
    run = start_run(runs)
    run.close(Outcome(status=RunStatus.FAILED, reason="NameError", steps=steps))
    return rename_run(runs / run.record.run, newest_id(runs))


def test_a_run_that_failed_before_its_first_step_is_skipped_and_named(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = make_own_run(runs)
    assert find_run_id("latest", local_ids(runs)) == good
    assert capsys.readouterr().err == "", "nothing is reported if `latest` is the newest run and completed"
    idle = make_failed_run(runs, steps=0)
    assert find_run_id("latest", local_ids(runs)) == good
    stderr = capsys.readouterr().err
    assert good in stderr
    assert f"skipped: {idle} (failed before its first step)" in stderr
    later = make_failed_run(runs, steps=None)
    assert find_run_id("latest", local_ids(runs)) == later
    assert "(failed)" in capsys.readouterr().err


def make_newest_run(runs: Path, **around: object) -> str:
    run = make_run(runs, around=around).record.run
    return rename_run(runs / run, newest_id(runs))


def make_own_run(runs: Path) -> str:
    run = finish_run(runs)
    register_attempt(run.folder)
    return run.record.run


def clear_register(runs: Path) -> None:
    shutil.rmtree(next(runs.glob(".own-*")))


@pytest.mark.parametrize(
    ("around", "message"),
    [
        ({"retest_of": "20260301t120000-aaaaaa"}, "rerun of 20260301t120000-aaaaaa"),
        ({"purpose": "certify"}, "made by certify"),
        ({"purpose": "noise"}, "made by noise"),
    ],
)
def test_latest_is_the_users_own_run_and_not_a_run_made_by_a_command(
    runs: Path, capsys: pytest.CaptureFixture[str], around: dict[str, str], message: str
) -> None:
    mine = make_own_run(runs)
    helper = make_newest_run(runs, **around)
    assert find_run_id("latest", local_ids(runs)) == mine
    assert capsys.readouterr().err == f"latest is run {mine} (completed); skipped: {helper} ({message})\n"


def test_an_unregistered_run_does_not_belong_to_the_user(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = make_newest_run(runs)
    clear_register(runs)
    mine = make_own_run(runs)
    assert find_run_id("latest", local_ids(runs)) == mine
    assert f"{theirs} (from another user or machine)" in capsys.readouterr().err


def test_without_an_own_run_latest_is_the_newest_run_with_a_note(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = make_newest_run(runs)
    clear_register(runs)
    assert find_run_id("latest", local_ids(runs)) == theirs
    assert capsys.readouterr().err == f"latest is run {theirs} (from another user or machine)\n"


def test_many_skipped_runs_are_counted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_own_run(runs)
    for _ in range(5):
        make_newest_run(runs, purpose="noise")
    find_run_id("latest", local_ids(runs))
    assert capsys.readouterr().err.endswith(" and 2 older ones\n")


def test_if_all_runs_failed_latest_is_the_newest(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_failed_run(runs, steps=0)
    newest = make_failed_run(runs, steps=0)
    assert find_run_id("latest", local_ids(runs)) == newest
    assert "(failed before its first step)" in capsys.readouterr().err
    assert find_run_id(newest, local_ids(runs)) == newest
    assert not capsys.readouterr().err


def test_a_run_of_which_only_checkpoints_were_published_is_named_and_found_by_the_start_of_its_id(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    other = Machine(name="other", runs=tmp_path / "other" / "runs", store=open_store(str(tmp_path / "store")))
    run = other.begin()
    other.snapshot(other.train(3))
    assert runs_command(["ls"]) == 0
    stderr = capsys.readouterr().err
    assert (
        f"not listed: {run}, of which only checkpoints were published: each may still train on another machine"
        in stderr
    )
    assert find_run(run[:20]).folder == runs / run
    assert runs_command(["ls"]) == 0
    assert "not listed" not in capsys.readouterr().err
