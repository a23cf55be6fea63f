"""One run that cannot be read is named, and keeps none of the others from being listed: L01, L02, L04."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.actions.runs import finished
from tests.security.hostile import at, bad_run, bad_seal
from trainer.cli import main

if TYPE_CHECKING:
    from pathlib import Path

BAD: dict[str, tuple[Any, str]] = {
    "L01 NaN seconds": (at("circumstances", "timing", "seconds", value="NaN"), "circumstances.timing.seconds"),
    "L01 NaN literal": (at("circumstances", "timing", "seconds", value=float("nan")), "NaN"),
    "L01 infinite seconds": (
        at("circumstances", "timing", "seconds", value="Infinity"),
        "circumstances.timing.seconds",
    ),
    "seconds that add up to more than a float": (
        at("circumstances", "timing", "seconds", value=1e308),
        "circumstances.timing.seconds",
    ),
    "L02 surrogate in a value": (at("ingredients", "experiment", value="a\ud800"), "ingredients.experiment"),
    "L02 surrogate in a key": (at("ingredients", "settings", "\ud800", value=1), "ingredients.settings"),
    "L04 memory of 400 digits": (at("circumstances", "host", "memory", value=10**400), "circumstances.host.memory"),
    "memory as a text of 400 digits": (
        at("circumstances", "host", "memory", value="1" * 400),
        "circumstances.host.memory",
    ),
    "a start without a time zone": (
        at("circumstances", "timing", "started", value="0001-01-01T00:00:00"),
        "circumstances.timing.started",
    ),
    "settings nested 5,000 deep": (at("ingredients", "settings", "a", value="DEEP"), "brackets"),
}


def deepened(path: Path) -> None:
    """Write what `json.dumps` cannot: thousands of levels."""
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"DEEP"', "[" * 5000 + "]" * 5000))


@pytest.mark.parametrize("case", BAD)
def test_runs_ls_names_a_bad_local_run_and_lists_the_others(
    runs: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    good, (change, key) = finished(runs).record.run, BAD[case]
    bad = bad_run(runs, change)
    deepened(runs / bad / "attempts" / "1" / "record.json")
    assert main(["runs", "ls", "--json"]) == 0
    said = capsys.readouterr()
    assert {row["run"]: row["status"] for row in json.loads(said.out)} == {good: "completed", bad: "unreadable"}
    (line,) = [line for line in said.err.splitlines() if bad in line]
    assert key in line
    assert main(["runs", "ls"]) == 0
    assert main(["runs", "show", bad]) == 80


@pytest.mark.parametrize("case", BAD)
def test_runs_ls_names_a_bad_run_of_the_store_and_lists_the_others(
    runs: Path, store: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, key = BAD[case]
    bad = bad_seal(store, runs, change)
    deepened(store / "runs" / bad / "attempts" / "1" / "sealed.json")
    good = finished(runs).record.run
    assert main(["runs", "ls", "--json"]) == 0
    said = capsys.readouterr()
    assert {row["run"]: row["status"] for row in json.loads(said.out)} == {good: "completed", bad: "unreadable"}
    assert any(bad in line and key in line for line in said.err.splitlines())
    assert main(["runs", "show", bad]) == 80
    assert main(["runs", "pull", bad]) == 40


def test_a_pipe_in_the_place_of_a_record_stops_no_listing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(runs)
    bad = finished(runs)
    (bad.folder / "record.json").unlink()
    os.mkfifo(bad.folder / "record.json")
    os.mkfifo(bad.folder / "published.json")
    assert main(["runs", "ls"]) == 0
    assert "named pipe" in capsys.readouterr().err
