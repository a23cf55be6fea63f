"""The report at the end of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.cli.process.test_closing import make_session
from trainer.cli.messages import spelled
from trainer.cli.process.closing import PublishOutcome, report_lines, with_host_endpoint
from trainer.runs.record import Outcome, RunStatus
from trainer.sites.submission import Submission, write_submission

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.cli.process.attempt import RunningAttempt


def test_the_stores_server_is_printed_with_the_hosts_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store:8333")
    monkeypatch.setenv("REPRISE_STORE_ON_HOST", "http://127.0.0.1:8433")
    message = "store s3://reprise at http://store:8333 does not respond"
    assert with_host_endpoint(message) == "store s3://reprise at http://127.0.0.1:8433 does not respond"
    monkeypatch.delenv("REPRISE_STORE_ON_HOST")
    assert with_host_endpoint(message) == message


def test_an_undefined_metric_is_printed_with_its_reason(tmp_path: Path) -> None:
    mine = make_session(tmp_path)
    metrics = {"test_auc": float("nan"), "val_auc": float("nan"), "test_loss": 0.5}
    undefined = {"test_auc": "one class", "val_auc": "one class"}
    mine.opened.close(Outcome(status=RunStatus.COMPLETED, metrics=metrics, undefined=undefined))
    tested = {name: value for name, value in mine.opened.record.outcome.metrics.items() if name.startswith("test_")}
    lines = report_lines(mine, PublishOutcome(address="here"), metrics=tested)
    assert lines[1:4] == ["test_auc   undefined (one class)", "test_loss  0.5000", "undefined  val_auc: one class"]


def test_values_are_aligned_after_the_longest_name(tmp_path: Path) -> None:
    mine = make_session(tmp_path)
    metrics = {"test_accuracy": 0.85, "test_f1": 1.5e30, "test_정확도": 0.0}
    mine.opened.close(Outcome(status=RunStatus.COMPLETED, metrics=metrics))
    lines = report_lines(mine, PublishOutcome(label="here"), metrics=dict(metrics), more=[("traceback", "log.txt")])
    assert lines[1:4] == ["test_accuracy  0.8500", "test_f1        1.500e+30", "test_정확도    0.0000"]
    assert lines[-1] == "traceback      log.txt"


@pytest.mark.parametrize(
    ("address", "option"),
    [("s3://reprise", ""), ("s3://team/a", " --store s3://team/a"), ("/mnt/a b", " --store '/mnt/a b'")],
)
def test_the_command_that_publishes_later_names_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, option: str
) -> None:
    monkeypatch.setenv("REPRISE_STORE", address)
    mine = make_session(tmp_path)
    mine.opened.close(Outcome(status=RunStatus.COMPLETED))
    lines = report_lines(mine, PublishOutcome(fault="it is away"), metrics={})
    assert lines[-1].endswith(f"runs publish {mine.opened.record.run}{option}")


def test_a_rerun_leaves_it_to_reproduce_to_say_where_it_is(tmp_path: Path) -> None:
    mine = make_session(tmp_path)
    original = "20260228t100000-qwerty"
    around = mine.opened.record.circumstances.model_copy(update={"retest_of": original})
    mine.opened.update(circumstances=around)
    mine.opened.close(Outcome(status=RunStatus.COMPLETED))
    lines = report_lines(mine, PublishOutcome(fault="the setting publish is off"), metrics={})
    assert not [line for line in lines if "publish" in line]


def resume_line(session: RunningAttempt) -> str:
    [line] = [line for line in report_lines(session, PublishOutcome(label="here"), metrics={}) if "resume" in line[:9]]
    return line.removeprefix("resume").strip()


def test_a_stopped_run_names_the_command_that_resumes_it_where_it_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = make_session(tmp_path)
    run, folder = mine.frozen.run, tmp_path / "runs" / mine.frozen.run
    mine.opened.close(Outcome(status=RunStatus.PREEMPTED))
    assert resume_line(mine) == spelled(f"reprise train --resume {run}")
    monkeypatch.setenv("REPRISE_SOURCE", "sha256:0")
    assert resume_line(mine) == f"kubectl apply -f runs/{run}/submission/job.yaml, where it was submitted"
    note = Submission(kind="slurm", site="lab", job="42", submitted=datetime(2026, 1, 1, tzinfo=UTC))
    (folder / "submission").mkdir()
    write_submission(folder, note)
    assert resume_line(mine) == f"cd runs/{run}/submission && sbatch job.sbatch, unless Slurm starts the job again"
    write_submission(folder, note.model_copy(update={"sweep": run}))
    expected = f"reprise sweep --continue {run} --to lab, unless Slurm starts the job again"
    assert resume_line(mine) == spelled(expected)
