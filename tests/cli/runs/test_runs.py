"""The command `reprise runs`."""

from __future__ import annotations

import json
import shlex
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.runs.runs import finish_run, start_run
from trainer.base.errors import (
    DigestMismatchError,
    RepriseError,
    RunError,
    RunNotFoundError,
    StoreMissingError,
    UsageError,
)
from trainer.cli.runs import main
from trainer.cli.runs.table import COLUMNS
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.register import register_attempt
from trainer.runs.run import record_of
from trainer.source.description import Source
from trainer.sweeps.document import FOLDER as SWEEPS
from trainer.sweeps.document import Point, Sweep, SweepRequest
from trainer.sweeps.folder import save

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a store that is configured for the machine with `runs`."""
    assert not runs.exists()
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def list_runs(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["ls", "--json", *words]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.usefixtures("store")
def test_a_run_is_listed_as_local_then_published_then_remote(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish_run(runs).record.run
    assert [row["location"] for row in list_runs(capsys)] == ["local only"]
    assert main(["publish", run]) == 0
    assert [row["location"] for row in list_runs(capsys)] == ["published"]
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "elsewhere"))
    assert [(row["run"], row["location"]) for row in list_runs(capsys)] == [(run, "remote only")]
    assert main(["pull", run[:20]]) == 0
    assert [row["location"] for row in list_runs(capsys)] == ["published"]


def test_a_limit_also_applies_to_the_runs_of_a_sweep(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = [finish_run(runs).record for _ in range(3)]
    sweep = Sweep(
        id=points[0].run,
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", points=[{"seed": str(seed)} for seed in range(3)]),
        source=points[0].ingredients.source,
        captured=Source(how="mounted"),
        points=[Point(settings={"seed": str(seed)}, runs=[each.run]) for seed, each in enumerate(points)],
    )
    (runs / SWEEPS / sweep.id).mkdir(parents=True)
    save(sweep, runs / SWEEPS / sweep.id)
    finish_run(runs)
    for limit, listed in ((("--limit", "2"), 2), (("--limit", "0"), 3), ((), 3)):
        assert len(list_runs(capsys, "--local", "--sweep", "latest", *limit)) == listed


def test_more_runs_than_the_limit_are_noted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = sorted(finish_run(runs).record.run for _ in range(3))[1:]
    assert main(["ls", "--local", "--limit", "2"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == [*reversed(newest)]
    assert err == "the newest 2 runs are listed; --limit 0 lists all\n"
    for limit in ("3", "0"):
        assert main(["ls", "--local", "--limit", limit]) == 0
        assert not capsys.readouterr().err


def test_the_command_is_shown_as_it_is_typed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = start_run(runs)
    words = ["train", "--script", "a b.py", "--", "--note", "it's"]
    run.record = run.record.model_copy(
        update={"circumstances": run.record.circumstances.model_copy(update={"command": words})}
    )
    run.close(Outcome(status=RunStatus.COMPLETED))
    assert main(["show", run.record.run]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("command")]
    assert shlex.split(line)[1:] == words


def test_without_the_store_local_runs_are_listed_with_a_note(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_run(runs)
    for address in ("", str(tmp_path / "not-mounted")):
        monkeypatch.setenv("REPRISE_STORE", address)
        assert main(["ls"]) == 0
        captured = capsys.readouterr()
        assert "local only" in captured.out
        assert "only local runs are listed" in captured.err


def test_a_table_in_a_pipe_is_plain_lines(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run(runs)
    main(["ls"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith(COLUMNS[0])
    assert "completed" in line
    assert "test_accuracy 0.3" in line


def test_an_undefined_metric_is_shown_with_its_reason(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    undefined = {"test_auc": "all 8 pairs are of one class"}
    start_run(runs).close(Outcome(status=RunStatus.COMPLETED, metrics={"test_auc": float("nan")}, undefined=undefined))
    main(["ls"])
    assert "test_auc undefined" in capsys.readouterr().out
    main(["show", "latest"])
    assert "test_auc  undefined (all 8 pairs are of one class)" in capsys.readouterr().out
    assert list_runs(capsys)[0]["undefined"] == undefined


def test_show_json_is_the_record(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs)
    main(["show", "latest", "--json"])
    assert json.loads(capsys.readouterr().out) == json.loads(run.record.to_json())


def test_show_is_a_page(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs)
    main(["show", str(run.folder.parents[1])])
    page = capsys.readouterr().out
    for word in (
        "completed",
        "0.30000000000000004",
        "does not run in a container of a Reprise image",
        "numpy: 2.0 here",
        "command line",
        "last.ckpt",
    ):
        assert word in page
    assert run.record.identity in page
    settings = page[page.index("\nsettings\n") :]
    assert settings.index("learning_rate") < settings.index("seed"), "what was given comes first"
    assert "  known  unknown: no digest is claimed: this process does not run in a container" in page


def test_control_characters_of_a_record_do_not_reach_the_terminal(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_run(runs).close(Outcome(status=RunStatus.FAILED, reason="\x1b[2J\x07gone"))
    main(["show", "latest"])
    main(["ls"])
    page = capsys.readouterr().out
    assert "\x1b" not in page
    assert "\\u001b[2J" in page


@pytest.mark.usefixtures("store")
def test_an_unknown_run_suggests_the_nearest_id(runs: Path) -> None:
    first, second = finish_run(runs).record.run, finish_run(runs).record.run
    with pytest.raises(RunNotFoundError) as error:
        main(["show", first[:-1] + "1"])
    assert first in str(error.value.hint)
    with pytest.raises(UsageError, match="matches 2 runs") as several:
        main(["show", first[:8]])
    assert second in several.value.message


def test_an_empty_list_is_reported_and_is_not_an_error(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not runs.exists()
    assert list_runs(capsys) == []
    assert main(["ls"]) == 0
    assert "no runs yet" in capsys.readouterr().err
    with pytest.raises(RunNotFoundError):
        main(["show", "latest"])


def test_one_damaged_record_does_not_hide_the_others(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = finish_run(runs).record.run, finish_run(runs)
    (bad.folder / "record.json").write_text("{")
    rows = {row["run"]: row for row in list_runs(capsys)}
    assert rows[good]["status"] == "completed"
    assert "not valid JSON" in rows[bad.record.run]["fault"]
    with pytest.raises(RunError):
        main(["show", bad.record.run])


@pytest.mark.usefixtures("store")
def test_a_run_whose_process_was_killed_can_be_closed_and_published(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start_run(runs)
    monkeypatch.setenv("REPRISE_HOST", run.record.circumstances.host.name)
    with pytest.raises(RunError, match="still running"):
        main(["publish", run.record.run, "--abandoned"])
    run.release()
    assert [(row["status"], row["died"]) for row in list_runs(capsys)] == [("running", True)]
    with pytest.raises(RunError, match="still running"):
        main(["publish", run.record.run])
    assert main(["publish", run.record.run, "--abandoned"]) == 0
    assert [row["status"] for row in list_runs(capsys)] == ["interrupted"]


@pytest.mark.usefixtures("store")
def test_a_run_of_another_host_is_not_treated_as_dead(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start_run(runs)
    run.release()
    monkeypatch.setenv("REPRISE_HOST", "elsewhere")
    with pytest.raises(RunError, match="was started on host h; this is host elsewhere") as error:
        main(["publish", run.record.run, "--abandoned"])
    assert "REPRISE_HOST=h" in str(error.value.hint)
    assert run.record == record_of(runs / run.record.run)


@pytest.mark.usefixtures("store")
def test_publish_all_publishes_finished_local_runs_only(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_run(runs)
    done = {finish_run(runs).record.run for _ in range(2)}
    main(["publish", "--all", "--json"])
    assert {item["run"] for item in json.loads(capsys.readouterr().out)} == done
    main(["publish", "--all", "--json"])
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.usefixtures("store")
def test_publish_all_continues_after_a_run_that_cannot_be_published(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = finish_run(runs), finish_run(runs)
    (bad.folder / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match="1 of 2 runs"):
        main(["publish", "--all"])
    captured = capsys.readouterr()
    assert good.record.run in captured.out
    assert "metrics.jsonl is missing" in captured.err


@pytest.mark.usefixtures("store")
def test_only_a_console_log_may_grow_after_the_end(runs: Path, tmp_path: Path) -> None:
    run = start_run(runs)
    for name in ("log.txt", "metrics.jsonl"):
        (run.folder / name).write_text(f"{name}\n")
    run.close(Outcome(status=RunStatus.COMPLETED))
    with (run.folder / "log.txt").open("a") as log:
        log.write("a late line")
    assert main(["publish", "latest"]) == 0
    found = list((tmp_path / "store").rglob("*"))
    assert any(path.is_file() and path.read_bytes() == b"log.txt\n" for path in found)
    with (run.folder / "metrics.jsonl").open("a") as log:
        log.write("a late line")
    with pytest.raises(DigestMismatchError, match="recorded 14 bytes, found 25"):
        main(["publish", "latest"])


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([], UsageError),
        (["sho"], UsageError),
        (["ls", "--loca"], UsageError),
        (["publish"], StoreMissingError),
        (["pull", "20260301t120000-aaaaaa"], StoreMissingError),
    ],
)
def test_invalid_input_is_an_error_with_a_hint(words: list[str], kind: type[RepriseError]) -> None:
    with pytest.raises(kind) as error:
        main(words)
    assert error.value.hint


@pytest.mark.usefixtures("store")
def test_pulling_a_local_run_reports_that_it_exists(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finish_run(runs).record.run
    assert main(["publish", run]) == 0
    assert main(["pull", "latest"]) == 0
    assert f"{run} is already in" in capsys.readouterr().out


@pytest.mark.host
@pytest.mark.usefixtures("store")
def test_latest_is_the_local_run_for_show_and_the_stores_run_for_pull(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = sorted(finish_run(runs).record.run for _ in range(2))
    register_attempt(runs / older / "attempts/1")
    assert main(["publish", newer]) == 0
    shutil.rmtree(runs / newer)
    for words, expected in ((["show", "latest"], older), (["pull", "latest"], newer), (["show", "latest"], older)):
        assert main(words) == 0
        assert f"{expected}" in capsys.readouterr().out
    shutil.rmtree(runs)
    assert main(["show", "latest"]) == 0
    assert f"latest is run {newer} (in the store only)" in capsys.readouterr().err
    with pytest.raises(RunNotFoundError):
        main(["show", "latest", "--store", str(tmp_path / "away")])


@pytest.mark.usefixtures("store")
def test_push_copies_a_published_run_and_publishes_a_local_one(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bucket").mkdir()
    published, alone = finish_run(runs).record.run, finish_run(runs).record.run
    assert main(["publish", published]) == 0
    shutil.rmtree(runs / published)
    assert main(["push", published, alone, "--store", str(tmp_path / "bucket")]) == 0
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "elsewhere"))
    rows = list_runs(capsys, "--store", str(tmp_path / "bucket"))
    assert {(row["run"], row["location"]) for row in rows} == {(published, "remote only"), (alone, "remote only")}


@pytest.mark.usefixtures("store")
def test_push_of_an_unknown_run_names_the_store(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    assert not runs.exists()
    with pytest.raises(RunNotFoundError, match=str(tmp_path / "store")):
        main(["push", "20260101t000000-abcdef", "--store", str(tmp_path / "bucket")])


@pytest.mark.usefixtures("store")
def test_publish_all_also_publishes_runs_of_another_store(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bucket").mkdir()
    run = finish_run(runs).record.run
    assert main(["publish", run]) == 0
    assert main(["publish", "--all", "--store", str(tmp_path / "bucket")]) == 0
    assert f"published {run}" in capsys.readouterr().out.splitlines()[-1]
    assert (tmp_path / "bucket/runs" / run / "attempts/1/sealed.json").is_file()
