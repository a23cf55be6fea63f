"""Commands name an unreadable document, and list all others."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.data.conftest import typed
from tests.runs.runs import finish_run
from tests.security.hostile import bad_run, bad_seal, set_value
from trainer.base.digest import digest_of_bytes
from trainer.cli import main
from trainer.cli.find_run import find_run_id
from trainer.runs.register import register_attempt
from trainer.source.description import Source
from trainer.sweeps.document import Point, Sweep, SweepRequest
from trainer.sweeps.folder import save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["typed"]

BAD: dict[str, tuple[Any, str]] = {
    "NaN seconds": (set_value("circumstances", "timing", "seconds", value="NaN"), "circumstances.timing.seconds"),
    "NaN literal": (set_value("circumstances", "timing", "seconds", value=float("nan")), "NaN"),
    "infinite seconds": (
        set_value("circumstances", "timing", "seconds", value="Infinity"),
        "circumstances.timing.seconds",
    ),
    "seconds that add up to more than a float": (
        set_value("circumstances", "timing", "seconds", value=1e308),
        "circumstances.timing.seconds",
    ),
    "surrogate in a value": (set_value("ingredients", "experiment", value="a\ud800"), "ingredients.experiment"),
    "surrogate in a key": (set_value("ingredients", "settings", "\ud800", value=1), "ingredients.settings"),
    "memory of 400 digits": (
        set_value("circumstances", "host", "memory", value=10**400),
        "circumstances.host.memory",
    ),
    "memory as a text of 400 digits": (
        set_value("circumstances", "host", "memory", value="1" * 400),
        "circumstances.host.memory",
    ),
    "a start without a time zone": (
        set_value("circumstances", "timing", "started", value="0001-01-01T00:00:00"),
        "circumstances.timing.started",
    ),
    "settings nested 5,000 deep": (set_value("ingredients", "settings", "a", value="DEEP"), "brackets"),
}


def write_deeply_nested(path: Path) -> None:
    """Replace the text `DEEP` in a document with thousands of nested brackets, which `json.dumps` cannot write."""
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"DEEP"', "[" * 5000 + "]" * 5000))


@pytest.mark.parametrize("case", BAD)
def test_runs_ls_names_a_bad_local_run_and_lists_the_others(
    runs: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    good, (change, key) = finish_run(runs).record.run, BAD[case]
    bad = bad_run(runs, change)
    write_deeply_nested(runs / bad / "attempts" / "1" / "record.json")
    assert main(["runs", "ls", "--json"]) == 0
    captured = capsys.readouterr()
    assert {row["run"]: row["status"] for row in json.loads(captured.out)} == {good: "completed", bad: "unreadable"}
    (line,) = [line for line in captured.err.splitlines() if bad in line]
    assert key in line
    assert main(["runs", "ls"]) == 0
    assert main(["runs", "show", bad]) == 80


@pytest.mark.parametrize("case", BAD)
def test_runs_ls_names_a_bad_run_of_the_store_and_lists_the_others(
    runs: Path, store: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, key = BAD[case]
    bad = bad_seal(store, runs, change)
    write_deeply_nested(store / "runs" / bad / "attempts" / "1" / "sealed.json")
    good = finish_run(runs).record.run
    assert main(["runs", "ls", "--json"]) == 0
    captured = capsys.readouterr()
    assert {row["run"]: row["status"] for row in json.loads(captured.out)} == {good: "completed", bad: "unreadable"}
    assert any(bad in line and key in line for line in captured.err.splitlines())
    assert main(["runs", "show", bad]) == 80
    assert main(["runs", "pull", bad]) == 40


def test_a_pipe_in_place_of_a_record_does_not_block_a_listing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run(runs)
    bad = finish_run(runs)
    (bad.folder / "record.json").unlink()
    os.mkfifo(bad.folder / "record.json")
    os.mkfifo(bad.folder / "published.json")
    assert main(["runs", "ls"]) == 0
    assert "named pipe" in capsys.readouterr().err


def test_latest_skips_an_unreadable_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs)
    register_attempt(run.folder)
    good, bad = run.record.run, bad_run(runs, BAD["NaN seconds"][0])
    newest = f"29990101t000000-{bad[-6:]}"
    (runs / bad).rename(runs / newest)
    assert find_run_id("latest", [good, newest]) == good
    assert newest in capsys.readouterr().err


def test_a_report_of_several_runs_names_the_bad_one(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = finish_run(runs).record.run, bad_run(runs, BAD["NaN seconds"][0])
    assert main(["report", good, bad, "--no-samples", "--json", "-o", str(runs / "page.html")]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["runs"], list(document["unreadable"])) == ([good], [bad])
    assert f"run {bad} cannot be read" in captured.err
    assert main(["report", bad]) == 40


def test_a_report_shows_runs_that_cannot_be_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [finish_run(runs) for _ in range(2)]
    for run in both:
        (run.folder / "trace.jsonl").write_text('{"format": NaN}\n')
    assert main(["report", *(run.record.run for run in both), "--no-samples", "-o", "-"]) == 0
    assert "NaN is not a JSON number" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "name = 1", "\x1b[2J = 1", '"\\ud800" = 1'])
def test_data_ls_and_gc_name_a_bad_declaration(
    typed: Callable[..., tuple[int, str, str]], tmp_path: Path, text: str
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a").write_bytes(b"a")
    typed("publish", "good", "good")
    typed("publish", "bad", "good")
    typed("fetch", "bad")
    (tmp_path / "datasets" / "bad.toml").write_text(text)
    code, out, err = typed("ls", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (code, "unreadable" in rows["bad"], rows["good"]["version"]) == (0, True, 1)
    assert "dataset bad cannot be read" in err
    assert "good" in typed("ls")[1]
    code, out, err = typed("gc", "--json")
    assert (code, json.loads(out)["versions"]) == (0, [])
    assert "all versions of dataset bad are kept" in err
    assert typed("show", "bad")[0] == 40


def test_a_sweep_shows_its_points_beside_an_unreadable_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = finish_run(runs).record.run, bad_run(runs, BAD["NaN seconds"][0])
    points = [{"seed": "0"}, {"seed": "1"}]
    sweep = Sweep(
        id=good,
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", points=points),
        source=digest_of_bytes(b""),
        captured=Source(how="mounted"),
        points=[Point(settings=each, runs=[run]) for each, run in zip(points, (good, bad), strict=True)],
    )
    (runs / "sweeps" / good).mkdir(parents=True)
    save(sweep, runs / "sweeps" / good)
    assert main(["sweep", "--show", good, "--json"]) == 0
    captured = capsys.readouterr()
    assert ["unreadable" in point for point in json.loads(captured.out)["points"]] == [False, True]
    assert f"run {bad} of point 2 cannot be read" in captured.err
