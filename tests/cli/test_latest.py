"""Which run `latest` is, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.actions.runs import begun, finished
from trainer.actions.list_runs import local_ids
from trainer.cli.latest import named
from trainer.record import Outcome, Status

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's runs."""
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def failed(runs: Path, *, steps: int | None) -> str:
    """A run that failed after so many steps, and is the newest of all."""
    run = begun(runs)
    run.close(Outcome(status=Status.FAILED, reason="NameError", steps=steps))
    newest = f"{2100 + len(local_ids(runs))}0101t000000-aaaaaa"
    (runs / run.record.run).rename(runs / newest)
    return newest


def test_a_run_that_failed_before_its_first_step_is_passed_over_and_named(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It left nothing but its reason; one that failed later, or of which it is not known, counts, and is said to have failed."""
    good = finished(runs).record.run
    assert named("latest", local_ids(runs)) == good
    assert capsys.readouterr().err == "", "nothing to say of a run that is the newest and completed"
    idle = failed(runs, steps=0)
    assert named("latest", local_ids(runs)) == good
    said = capsys.readouterr().err
    assert good in said
    assert f"failed before its first step: {idle}" in said
    later = failed(runs, steps=None)
    assert named("latest", local_ids(runs)) == later
    assert "(failed)" in capsys.readouterr().err


def test_where_all_failed_so_the_newest_is_meant(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what it is is said; an id is never commented."""
    failed(runs, steps=0)
    newest = failed(runs, steps=0)
    assert named("latest", local_ids(runs)) == newest
    assert "(failed)" in capsys.readouterr().err
    assert named(newest, local_ids(runs)) == newest
    assert not capsys.readouterr().err
