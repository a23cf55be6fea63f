"""Which run `latest` is, and what is said of it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import made
from tests.runs.runs import begun, finished
from trainer.cli.find_run import find_run_id
from trainer.runs.list import local_ids
from trainer.runs.record import Outcome, Status
from trainer.runs.register import register_attempt

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's runs."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def newest_id(runs: Path, *, ahead: timedelta = timedelta()) -> str:
    """An ID after all that are there."""
    moment = datetime.now(UTC) + ahead + timedelta(minutes=1 + len(local_ids(runs)))
    return f"{moment:%Y%m%dt%H%M%S}-aaaaaa"


def test_a_run_dated_in_the_future_is_skipped(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, future = own(runs), finished(runs).record.run
    renamed(runs / future, name := newest_id(runs, ahead=timedelta(days=3653)))
    assert find_run_id("latest", local_ids(runs)) == good
    assert f"{name} (date in the future: a clock was wrong)" in capsys.readouterr().err


def renamed(run: Path, name: str) -> str:
    """Give a run of the user's own another id; return it."""
    for path in (run / "attempts/1/record.json", run / "attempts/1/claim.json"):
        path.write_text(path.read_text().replace(run.name, name))
    register_attempt(run.rename(run.with_name(name)) / "attempts/1")
    return name


def failed(runs: Path, *, steps: int | None) -> str:
    """A run that failed after so many steps, and is the newest of all."""
    run = begun(runs)
    run.close(Outcome(status=Status.FAILED, reason="NameError", steps=steps))
    return renamed(runs / run.record.run, newest_id(runs))


def test_a_run_that_failed_before_its_first_step_is_skipped_and_named(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = own(runs)
    assert find_run_id("latest", local_ids(runs)) == good
    assert capsys.readouterr().err == "", "nothing to say of a run that is the newest and completed"
    idle = failed(runs, steps=0)
    assert find_run_id("latest", local_ids(runs)) == good
    stderr = capsys.readouterr().err
    assert good in stderr
    assert f"skipped: {idle} (failed before its first step)" in stderr
    later = failed(runs, steps=None)
    assert find_run_id("latest", local_ids(runs)) == later
    assert "(failed)" in capsys.readouterr().err


def newest(runs: Path, **around: object) -> str:
    """A completed run with these circumstances, the newest of all."""
    run = made(runs, around=around).record.run
    return renamed(runs / run, newest_id(runs))


def own(runs: Path) -> str:
    """A completed run that the user trained here."""
    run = finished(runs)
    register_attempt(run.folder)
    return run.record.run


def forget(runs: Path) -> None:
    """Have no run registered."""
    shutil.rmtree(next(runs.glob(".own-*")))


@pytest.mark.parametrize(
    ("around", "message"),
    [
        ({"retest_of": "20260301t120000-aaaaaa"}, "retest of 20260301t120000-aaaaaa"),
        ({"purpose": "certify"}, "made by certify"),
        ({"purpose": "noise"}, "made by noise"),
    ],
)
def test_latest_is_the_users_own_run_and_not_a_run_made_by_a_command(
    runs: Path, capsys: pytest.CaptureFixture[str], around: dict[str, str], message: str
) -> None:
    mine = own(runs)
    helper = newest(runs, **around)
    assert find_run_id("latest", local_ids(runs)) == mine
    assert capsys.readouterr().err == f"latest is run {mine} (completed); skipped: {helper} ({message})\n"


def test_an_unregistered_run_does_not_belong_to_the_user(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = newest(runs)
    forget(runs)
    mine = own(runs)
    assert find_run_id("latest", local_ids(runs)) == mine
    assert f"{theirs} (made elsewhere)" in capsys.readouterr().err


def test_without_an_own_run_latest_is_the_newest_run_with_a_note(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = newest(runs)
    forget(runs)
    assert find_run_id("latest", local_ids(runs)) == theirs
    assert capsys.readouterr().err == f"latest is run {theirs} (made elsewhere)\n"


def test_many_skipped_runs_are_counted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(runs)
    for _ in range(5):
        newest(runs, purpose="noise")
    find_run_id("latest", local_ids(runs))
    assert capsys.readouterr().err.endswith(" and 2 older ones\n")


def test_if_all_runs_failed_latest_is_the_newest(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(runs, steps=0)
    newest = failed(runs, steps=0)
    assert find_run_id("latest", local_ids(runs)) == newest
    assert "(failed before its first step)" in capsys.readouterr().err
    assert find_run_id(newest, local_ids(runs)) == newest
    assert not capsys.readouterr().err
